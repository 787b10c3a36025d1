//! The bodies of the fuzz targets for files of PyTorch (`fuzz/`, `make fuzz`) on a bounded number of inputs: the
//! fuzzer's own seeds, which are real files, with a few changes.

use proptest::prelude::*;
use spotd_train::torchfile;
use std::{path::Path, sync::LazyLock};

#[path = "../../fuzz/torch_bodies.rs"]
mod torch_bodies;

static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/torchfile");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
});

#[test]
fn the_seeds_are_checkpoints() {
    assert!(SEEDS.len() >= 4);
    for seed in SEEDS.iter() {
        assert!(!torchfile::parse::parse(seed.clone()).unwrap().tensors.is_empty());
        torch_bodies::torchfile(seed);
    }
}

#[test]
fn a_tensor_that_is_larger_than_its_numbers_is_refused() {
    // The size of the first tensor of a small checkpoint, (3, 2), with strides (2, 1), made (255, 255) by (0, 0):
    // four bytes that would come to a quarter of a million.
    let sound = SEEDS.iter().find(|seed| seed.starts_with(&[0x80])).unwrap();
    let place = |what: &[u8]| sound.windows(what.len()).position(|w| w == what).unwrap();
    let mut huge = sound.clone();
    let (size, stride) = (place(b"K\x03K\x02\x86"), place(b"K\x02K\x01\x86"));
    huge[size + 1] = 255;
    huge[size + 3] = 255;
    huge[stride + 1] = 0;
    huge[stride + 3] = 0;
    let error = format!("{:#}", torchfile::parse::parse(huge).unwrap_err());
    assert!(error.contains("[255, 255]") && error.contains("save it anew"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn changed_checkpoints(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = which.get(&SEEDS[..]).clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        torch_bodies::torchfile(&bytes);
    }

    #[test]
    fn any_instructions_as_a_pickle(
        code in prop::collection::vec(
            prop_oneof![
                prop::sample::select(b"(].}q\x00\x01h\x00\x01etuas0)\x85\x86RQ1".to_vec()),
                any::<u8>(),
            ],
            0..200,
        ),
    ) {
        torch_bodies::pickle(&[b"\x80\x02", &code[..], b"."].concat());
    }
}
