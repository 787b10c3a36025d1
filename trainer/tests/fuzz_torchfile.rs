//! The bodies of the fuzz targets for files of PyTorch and safetensors (`fuzz/`, `make fuzz`) on a
//! bounded number of inputs: the fuzzer's own seeds, which are real files, with a few changes.

use proptest::prelude::*;
use spotd_torchfile::{parse, safetensors};
use spotd_train::torchfile;
use std::{path::Path, sync::LazyLock};

#[path = "../../fuzz/torch_bodies.rs"]
mod torch_bodies;

static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| seeds("torchfile"));
static SAFETENSORS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| seeds("safetensors"));

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn changed(
    seed: &[u8],
    changes: Vec<(prop::sample::Index, u8)>,
    cut: Option<prop::sample::Index>,
) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = byte;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

/// A safetensors file of this header and so many bytes.
fn with_header(header: &str, bytes: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; bytes]].concat()
}

#[test]
fn the_seeds_are_safetensors_as_tch_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    assert!(SAFETENSORS.len() >= 3);
    for seed in SAFETENSORS.iter() {
        torch_bodies::safetensors(seed);
        let path = dir.path().join("w.safetensors");
        std::fs::write(&path, seed).unwrap();
        let (ours, theirs) = (torchfile::read(&path).unwrap(), tch::Tensor::read_safetensors(&path).unwrap());
        assert_eq!(ours.len(), theirs.len());
        for (name, tensor) in theirs {
            assert_eq!(ours[&name].size(), tensor.size(), "{name}");
            assert_eq!(ours[&name], tensor, "{name}");
        }
    }
}

#[test]
fn safetensors_that_claim_more_than_they_hold_are_refused() {
    let entry = |name: &str, kind: &str, shape: &str, from: u64, to: u64| {
        format!(r#""{name}":{{"dtype":"{kind}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let most = u64::MAX;
    for (what, header, bytes) in [
        ("an offset that overflows", entry("a", "U8", "[18446744073709551615]", 0, most), 0),
        ("an end near it", entry("a", "U8", "[9223372036854775807]", 0, most / 2), 0),
        ("no axis", entry("a", "F32", "[-1]", 0, 4), 4),
        ("an empty one of endless others", entry("a", "F32", "[0,4611686018427387904,4]", 0, 0), 0),
        ("a product that overflows", entry("a", "F32", "[4294967296,4294967296]", 0, 0), 0),
        ("backwards", entry("a", "F32", "[1]", 4, 0), 4),
        ("too few bytes", entry("a", "F32", "[2]", 0, 4), 4),
        ("one twice", [entry("a", "F32", "[1]", 0, 4), entry("b", "F32", "[1]", 0, 4)].join(","), 4),
        ("bytes of nobody", entry("a", "F32", "[1]", 0, 4), 5),
        ("an unknown kind", entry("a", "F8_E4M3", "[1]", 0, 1), 1),
    ] {
        let file = with_header(&format!("{{{header}}}"), bytes);
        torch_bodies::safetensors(&file);
        let error = format!("{:#}", safetensors::parse(&file).expect_err(what));
        assert!(error.contains("save"), "{what}: {error}");
    }
    // As it reaches a user: with the file's name.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.safetensors");
    std::fs::write(&path, &SAFETENSORS[0][..20]).unwrap();
    let error = format!("{:#}", torchfile::read(&path).unwrap_err());
    assert!(error.contains("cut.safetensors") && error.contains("save it again"), "{error}");
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    assert!(safetensors::parse(&huge).unwrap_err().to_string().contains("header of"));
}

#[test]
fn the_seeds_are_checkpoints() {
    assert!(SEEDS.len() >= 4);
    for seed in SEEDS.iter() {
        assert!(!parse::parse(seed.clone()).unwrap().tensors.is_empty());
        torch_bodies::torchfile(seed);
    }
}

#[test]
fn a_tensor_that_is_larger_than_its_numbers_is_refused() {
    // The size of the first tensor of a small checkpoint, (3, 2), with strides (2, 1), made (255,
    // 255) by (0, 0): four bytes that would come to a quarter of a million.
    let sound = SEEDS.iter().find(|seed| seed.starts_with(&[0x80])).unwrap();
    let place = |what: &[u8]| sound.windows(what.len()).position(|w| w == what).unwrap();
    let mut huge = sound.clone();
    let (size, stride) = (place(b"K\x03K\x02\x86"), place(b"K\x02K\x01\x86"));
    huge[size + 1] = 255;
    huge[size + 3] = 255;
    huge[stride + 1] = 0;
    huge[stride + 3] = 0;
    let error = format!("{:#}", parse::parse(huge).unwrap_err());
    assert!(error.contains("[255, 255]") && error.contains("save it again"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn changed_checkpoints(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        torch_bodies::torchfile(&changed(&SEEDS[which.index(SEEDS.len())], changes, cut));
    }

    #[test]
    fn changed_safetensors(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        torch_bodies::safetensors(&changed(&SAFETENSORS[which.index(SAFETENSORS.len())], changes, cut));
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
