//! The bodies of the fuzz targets for models and cards (`fuzz/`, `make fuzz`) on a bounded number
//! of inputs: the fuzzer's own seeds with a few changes; and what fuzzing found.

#[path = "../fuzz/onnx_bodies.rs"]
mod onnx_bodies;

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use prost::Message as _;
use spotd::detector::Model;
use spotd::detector::card::{Card, sha256_hex};
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("seeds").map(|e| e.expect("entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).expect("seed")).collect()
}

static MODELS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| seeds("onnx"));
static FLOAT: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| seeds("onnx_quantize"));

fn open(bytes: &[u8]) -> Result<Model, String> {
    let card =
        Card::parse(include_str!("../fuzz/seeds/card/edge.toml"), Path::new("edge.toml")).expect("a card");
    let card = Card { sha256: sha256_hex(bytes), tile: 32, ..card };
    Model::from_bytes(bytes, card, Path::new("hostile.onnx")).map_err(|error| error.to_string())
}

/// The first seed with another graph.
fn with(change: impl FnOnce(&mut tract_onnx::pb::GraphProto)) -> Vec<u8> {
    let mut model = ModelProto::decode(MODELS[1].as_slice()).expect("a seed");
    change(model.graph.as_mut().expect("a graph"));
    model.encode_to_vec()
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: 7,
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

#[test]
fn the_seeds_are_models() {
    assert!(MODELS.len() >= 4 && FLOAT.len() >= 2);
    for seed in MODELS.iter() {
        onnx_bodies::model(seed);
    }
    for seed in FLOAT.iter() {
        assert!(open(seed).expect("a model").logit(&image::RgbImage::new(32, 32)).is_ok());
        onnx_bodies::quantize(seed);
    }
}

#[test]
fn a_model_that_asks_for_endless_memory_is_refused() {
    let node = |op: &str, input: &[&str]| NodeProto {
        op_type: op.into(),
        name: "huge".into(),
        input: input.iter().map(|i| (*i).to_owned()).collect(),
        output: vec!["huge".into()],
        ..NodeProto::default()
    };
    let huge = |op: &str, input: &[&str], sizes: &[i64]| {
        with(|graph| {
            graph.initializer.push(integers("sizes", sizes));
            graph.initializer.push(integers("one", &[1]));
            graph.node.insert(0, node(op, input));
        })
    };
    for (what, bytes, words) in [
        (
            "a constant of any size",
            huge("ConstantOfShape", &["sizes"], &[1 << 20, 1 << 20]),
            "ConstantOfShape",
        ),
        ("one repeated", huge("Tile", &["one", "sizes"], &[1 << 40]), "Tile"),
        ("one spread", huge("Expand", &["one", "sizes"], &[i64::MAX, i64::MAX, i64::MAX]), "Expand"),
        ("a border", huge("Pad", &["one", "sizes"], &[0, i64::MAX]), "Pad"),
        ("a loop", huge("Loop", &["sizes", "one"], &[i64::MAX]), "runs in a loop"),
        (
            "a border of the picture",
            with(|g| {
                let pads = AttributeProto {
                    name: "pads".into(),
                    r#type: 7,
                    ints: vec![1 << 13; 4],
                    ..Default::default()
                };
                let conv = g.node.iter_mut().find(|n| n.op_type == "Conv").expect("a convolution");
                conv.attribute.retain(|a| a.name != "pads");
                conv.attribute.push(pads);
            }),
            "numbers",
        ),
        ("numbers elsewhere", with(|g| g.initializer[0].data_location = Some(1)), "another file"),
        (
            "more numbers than there are",
            with(|g| g.initializer[0].dims = vec![1 << 40]),
            "does not match shape",
        ),
    ] {
        let error = open(&bytes).err().unwrap_or_else(|| panic!("{what}: was taken"));
        assert!(error.contains("hostile.onnx") && error.contains(words), "{what}: {error}");
        onnx_bodies::quantize(&bytes);
    }
}

#[test]
fn a_graph_with_a_piece_missing_is_refused_by_the_quantiser() {
    for change in [
        (|node| node.output.clear()) as fn(&mut NodeProto),
        |node| node.input.clear(),
        |node| node.input.truncate(1),
        |node| node.output = vec![String::new()],
        |node| node.attribute.clear(),
        |node| node.input[1] = "nobody".into(),
    ] {
        for op in ["Conv", "Gemm", "Relu", "Pad", "Add", "Flatten"] {
            onnx_bodies::quantize(&with(|graph| {
                graph.node.iter_mut().filter(|n| n.op_type == op && n.input.len() > 1).for_each(change);
            }));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn changed_models(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut bytes = which.get(&MODELS[..]).clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        onnx_bodies::model(&bytes);
        onnx_bodies::quantize(&bytes);
    }

    #[test]
    fn changed_cards(at in any::<prop::sample::Index>(), new in "[-0-9a-z.=\"\\[\\]\n]{0,6}", gone in 0usize..8) {
        let mut text: Vec<char> = include_str!("../fuzz/seeds/card/edge.toml").chars().collect();
        let at = at.index(text.len());
        let end = (at + gone).min(text.len());
        text.splice(at..end, new.chars());
        onnx_bodies::card(&text.into_iter().collect::<String>());
    }
}
