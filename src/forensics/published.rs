//! The paper's own results on its test sets (ForenSynths), to be printed beside ours.
//!
//! Source: the table in the README of the authors' repository, PeterWang512/CNNDetection (13 June
//! 2020), which repeats the paper's table 2 for eleven sets and adds StyleGAN2 and Which Face Is
//! Real. Average precision in per cent of their ResNet-50, trained on ProGAN with blur and JPEG at
//! probability 0.5 or 0.1, on centre crops of 224 pixels and on whole pictures.

/// Published average precision of one set, 0..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// As the paper spells it.
    pub name: &'static str,
    /// Centre crops: augmentation 0.5, then 0.1.
    pub crop: [f64; 2],
    /// Whole pictures: augmentation 0.5, then 0.1.
    pub whole: [f64; 2],
}

/// Folder as downloaded, name, and AP in per cent: crop 0.5, crop 0.1, whole 0.5, whole 0.1.
#[rustfmt::skip]
const SETS: [(&str, &str, [f64; 4]); 13] = [
    ("progan",          "ProGAN",             [100.0, 100.0, 100.0, 100.0]),
    ("stylegan",        "StyleGAN",           [ 98.5,  99.6,  99.3,  99.8]),
    ("stylegan2",       "StyleGAN2",          [ 98.0,  99.1,  99.1,  99.5]),
    ("biggan",          "BigGAN",             [ 88.2,  84.5,  90.4,  86.0]),
    ("cyclegan",        "CycleGAN",           [ 96.8,  93.5,  97.9,  94.9]),
    ("stargan",         "StarGAN",            [ 95.4,  98.2,  97.5,  99.0]),
    ("gaugan",          "GauGAN",             [ 98.1,  89.5,  98.8,  90.8]),
    ("crn",             "CRN",                [ 98.9,  98.2, 100.0,  99.8]),
    ("imle",            "IMLE",               [ 99.5,  98.4, 100.0,  99.8]),
    ("seeingdark",      "SITD",               [ 92.7,  97.2,  99.6,  99.8]),
    ("san",             "SAN",                [ 63.9,  70.5,  62.8,  68.6]),
    ("deepfake",        "Deepfake",           [ 66.3,  89.0,  63.1,  84.5]),
    ("whichfaceisreal", "Which Face Is Real", [ 88.8,  93.2, 100.0,  99.8]),
];

/// The published results for the set in a folder of this name; `None` for any other.
pub fn published(folder: &str) -> Option<Published> {
    let folder = folder.to_ascii_lowercase();
    SETS.iter().find(|(name, ..)| *name == folder).map(|&(_, name, per_cent)| {
        let [a, b, c, d] = per_cent.map(|p| p / 100.0);
        Published { name, crop: [a, b], whole: [c, d] }
    })
}

/// Whether these sets are ForenSynths and not just one that shares a name with one of its sets: a
/// lone `stylegan2` can be anybody's.
pub fn is_forensynths<'a>(folders: impl IntoIterator<Item = &'a str>) -> bool {
    folders.into_iter().filter(|f| published(f).is_some()).count() >= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_means_are_those_that_the_paper_states() {
        // Table 2 states 90.8 and 92.6 over its eleven sets, without StyleGAN2 and Which Face Is
        // Real.
        let eleven = SETS.iter().filter(|(f, ..)| !["stylegan2", "whichfaceisreal"].contains(f));
        let (mut half, mut tenth) = (0.0, 0.0);
        for (folder, ..) in eleven {
            let found = published(folder).expect("known");
            half += found.crop[0] / 11.0;
            tenth += found.crop[1] / 11.0;
        }
        assert!((half - 0.908).abs() < 5e-4 && (tenth - 0.926).abs() < 5e-4, "{half} {tenth}");
        assert_eq!(published("SeeingDark").map(|p| p.name), Some("SITD"));
        assert_eq!(published("waifu2x"), None);
        assert!(!is_forensynths(["stylegan2", "waifu2x"]));
        assert!(is_forensynths(["stylegan2", "crn", "imle", "san", "mine"]));
    }
}
