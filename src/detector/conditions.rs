//! Whether a frame has kept enough of what the detector reads for a low score to mean anything.
//!
//! Compression, blur, shrinking and enlarging remove the fine structure that carries a generator's
//! trace. What is left of a generated picture then scores like a photograph, and "clear" would read
//! as innocence. So the card has a table of recall at the threshold, by what can be measured in a
//! frame itself: how many blocks it has and how much fine detail. That needs neither codec nor bit
//! rate, which a camera's raw frames do not tell.

use serde::{Deserialize, Serialize};

use super::coherence::BlockSums;

/// What a frame offers the detector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// Number of 16x16 blocks.
    pub blocks: f32,
    /// Power of the second difference in the upper half of frequencies, in decibels; 0 is a
    /// checkerboard of full contrast. Photographs as stored by cameras are at about -30 to -15.
    pub detail: f32,
}

impl Conditions {
    /// Those of a frame, or the mean of several.
    pub fn of(sums: &BlockSums) -> Self {
        Self { blocks: sums.blocks(), detail: sums.detail() }
    }
}

/// `[reach]` of a card: recall of generated pictures, by conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// Below this recall a score is not enough for "clear", 0..1.
    pub least: f64,
    /// Blocks from which each row except the first applies, ascending.
    pub blocks: Vec<f32>,
    /// Detail in decibels from which each column except the first applies, ascending.
    pub detail: Vec<f32>,
    /// Share of the generated pictures at or above the threshold, 0..1: one row per range of
    /// blocks, one column per range of detail.
    pub found: Vec<Vec<f64>>,
    /// Number of pictures behind each share.
    pub pictures: Vec<Vec<u32>>,
}

impl Reach {
    /// Recall of generated pictures under these conditions, 0..1.
    pub fn found(&self, conditions: Conditions) -> f64 {
        let (row, column) = self.cell(conditions);
        self.found[row][column]
    }

    /// Row and column of the table for these conditions.
    pub fn cell(&self, conditions: Conditions) -> (usize, usize) {
        (
            self.blocks.partition_point(|&from| from <= conditions.blocks),
            self.detail.partition_point(|&from| from <= conditions.detail),
        )
    }

    /// Whether recall under these conditions is so low that nothing may be called clear.
    pub fn is_degraded(&self, conditions: Conditions) -> bool {
        self.found(conditions) < self.least
    }

    /// What is wrong with the table, if anything.
    pub(super) fn check(&self) -> Result<(), String> {
        let share = |v: f64| (0.0..=1.0).contains(&v);
        if !share(self.least) {
            return Err(format!("least = {} must lie between 0 and 1", self.least));
        }
        for (name, edges) in [("blocks", &self.blocks), ("detail", &self.detail)] {
            if edges.iter().any(|e| !e.is_finite()) || edges.windows(2).any(|w| w[0] >= w[1]) {
                return Err(format!("{name} = {edges:?} must rise from number to number"));
            }
        }
        let (rows, columns) = (self.blocks.len() + 1, self.detail.len() + 1);
        let fits = |lengths: Vec<usize>| lengths.len() == rows && lengths.iter().all(|&n| n == columns);
        if !fits(self.found.iter().map(Vec::len).collect())
            || !fits(self.pictures.iter().map(Vec::len).collect())
        {
            return Err(format!(
                "found and pictures must have {rows} rows of {columns}: one more each than blocks and detail have edges"
            ));
        }
        match self.found.iter().flatten().find(|&&v| !share(v)) {
            Some(wrong) => Err(format!("found has {wrong}, which is not a share between 0 and 1")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::coherence::Luma;
    use crate::forensics::augment::{JpegCodec, Plan, gaussian_blur};
    use crate::forensics::scenes::SceneRenderer;

    fn table() -> Reach {
        Reach {
            least: 0.05,
            blocks: vec![400.0],
            detail: vec![-40.0, -30.0],
            found: vec![vec![0.0, 0.02, 0.2], vec![0.01, 0.1, 0.4]],
            pictures: vec![vec![60; 3]; 2],
        }
    }

    #[test]
    fn the_cell_is_the_one_whose_edges_hold_the_conditions() {
        let of = |blocks, detail| table().found(Conditions { blocks, detail });
        assert_eq!(of(100.0, -80.0), 0.0);
        assert_eq!(of(399.0, -40.0), 0.02);
        assert_eq!(of(400.0, -30.1), 0.1);
        assert_eq!(of(9000.0, 0.0), 0.4);
        assert!(table().is_degraded(Conditions { blocks: 100.0, detail: -35.0 }));
        assert!(!table().is_degraded(Conditions { blocks: 500.0, detail: -35.0 }));
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        assert_eq!(table().check(), Ok(()));
        let wrong = |change: &dyn Fn(&mut Reach)| {
            let mut reach = table();
            change(&mut reach);
            reach.check().expect_err("refused")
        };
        assert!(wrong(&|r| r.detail.reverse()).contains("detail"));
        assert!(wrong(&|r| r.blocks[0] = f32::NAN).contains("blocks"));
        assert!(wrong(&|r| r.found[1].truncate(2)).contains("2 rows of 3"));
        assert!(wrong(&|r| r.pictures.truncate(1)).contains("2 rows of 3"));
        assert!(wrong(&|r| r.found[0][0] = 1.5).contains("1.5"));
        assert!(wrong(&|r| r.least = -0.1).contains("least"));
    }

    #[test]
    fn compression_and_blur_take_detail_away() {
        let picture = SceneRenderer::new(3, 320, 256).frame(0);
        let detail =
            |picture: &image::RgbImage| Conditions::of(&BlockSums::of(&Luma::of_rgb(picture))).detail;
        let jpeg =
            |quality| Plan { jpeg: Some((JpegCodec::Quartered, quality)), ..Plan::NONE }.apply(&picture);
        let (whole, good, poor) = (detail(&picture), detail(&jpeg(85)), detail(&jpeg(15)));
        assert!(whole > good && good > poor + 1.0, "{whole} {good} {poor}");
        assert!(detail(&gaussian_blur(&picture, 1.5)) < whole - 6.0);
    }
}
