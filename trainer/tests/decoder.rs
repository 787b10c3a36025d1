//! Decoders of others as members of the bank: what is taken, what is refused and how, and a run
//! that learns from one alone; matched sets; packs.

use image::{Rgb, RgbImage};
use prost::Message as _;
use spotd::forensics::{dataset, rng::Rng};
use spotd_train::{
    checkpoint::Run,
    decoder::Decoder,
    export,
    net::{Layer, Net},
    pack, pairs, photos,
    resynth::{self, Options},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tch::{Device, Kind, Tensor};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_shape_proto::Dimension,
    tensor_shape_proto::dimension, type_proto,
};

const SIDE: i64 = pairs::DRAWN as i64;

fn node(op: &str, inputs: &[&str], output: &str, ints: &[(&str, &[i64])]) -> NodeProto {
    let attribute = ints
        .iter()
        .map(|(name, ints)| {
            let single = *name == "group";
            AttributeProto {
                name: (*name).into(),
                r#type: if single { AttributeType::Int } else { AttributeType::Ints } as i32,
                i: ints[0],
                ints: if single { vec![] } else { ints.to_vec() },
                ..AttributeProto::default()
            }
        })
        .collect();
    NodeProto {
        op_type: op.into(),
        name: output.into(),
        input: inputs.iter().map(|s| (*s).to_owned()).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    }
}

fn value(name: &str, sides: Option<i64>) -> ValueInfoProto {
    let dim = |axis: usize| Dimension {
        value: Some(match (axis, sides) {
            (0, _) => dimension::Value::DimValue(1),
            (1, _) => dimension::Value::DimValue(3),
            (_, Some(side)) => dimension::Value::DimValue(side),
            (axis, None) => dimension::Value::DimParam(["N", "C", "H", "W"][axis].into()),
        }),
        ..Dimension::default()
    };
    let shape = Some(TensorShapeProto { dim: (0..4).map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: 1, shape };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

/// A file whose last node makes `y`.
fn write(folder: &Path, name: &str, nodes: Vec<NodeProto>, sides: Option<i64>) -> PathBuf {
    let floats = |name: &str, dims: &[i64], data: Vec<f32>| TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data: data,
        ..TensorProto::default()
    };
    let output = |name: &str| ValueInfoProto { r#type: None, ..value(name, None) };
    // An autoencoder may give its latent too.
    let latent = nodes.first().filter(|_| name == "lossy.onnx").map(|node| node.name.clone());
    let graph = GraphProto {
        name: name.into(),
        node: nodes,
        initializer: vec![
            floats("doubling", &[3, 1, 2, 2], vec![1.0; 12]),
            floats("grey", &[1, 3, 1, 1], vec![1.0 / 3.0; 3]),
            floats("bytes", &[1], vec![255.0]),
            floats("plane", &[1, 3, 64, 64], vec![0.0; 3 * 64 * 64]),
        ],
        input: vec![value("x", sides)],
        output: latent.iter().map(String::as_str).chain(["y"]).map(output).collect(),
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: 8,
        producer_name: "spotd tests".into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    let path = folder.join(name);
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

fn halve(from: &str, to: &str) -> NodeProto {
    node("AveragePool", &[from], to, &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])])
}

fn double(from: &str, to: &str) -> NodeProto {
    node("ConvTranspose", &[from, "doubling"], to, &[("group", &[3]), ("strides", &[2, 2])])
}

/// Halves and doubles again: the least that leaves a lattice.
fn autoencoder(folder: &Path) -> PathBuf {
    write(folder, "lossy.onnx", vec![halve("x", "h"), double("h", "y")], None)
}

/// By eight: what it leaves is plain to see.
fn blocky(folder: &Path) -> PathBuf {
    let nodes = vec![
        halve("x", "a"),
        halve("a", "b"),
        halve("b", "c"),
        double("c", "d"),
        double("d", "e"),
        double("e", "y"),
    ];
    write(folder, "blocky.onnx", nodes, None)
}

#[test]
fn autoencoders_keep_the_size_and_super_resolution_gets_a_smaller_picture() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let same = Decoder::open(&autoencoder(dir.path()), SIDE).unwrap();
    let larger = write(dir.path(), "x4.onnx", vec![double("x", "h"), double("h", "y")], None);
    let larger = Decoder::open(&larger, SIDE).unwrap();
    assert_eq!((same.name.as_str(), same.factor), ("lossy", 1));
    assert_eq!((larger.name.as_str(), larger.factor), ("x4", 4));
    let x = Tensor::rand([2, 3, SIDE, SIDE], (Kind::Float, Device::Cpu));
    for (decoder, block) in [(&same, 2), (&larger, 4)] {
        let y = decoder.redraw(&x).unwrap();
        assert_eq!(y.size(), x.size());
        assert!(y.min().double_value(&[]) >= 0.0 && y.max().double_value(&[]) <= 1.0);
        // Blocks of one value, of this picture's own pixels.
        let corner = y.narrow(2, 0, block).narrow(3, 0, block);
        let spread = (corner.amax([2, 3], false) - corner.amin([2, 3], false)).abs().max().double_value(&[]);
        assert!(spread < 1e-6, "{}: {spread}", decoder.name);
    }
    let mean = x.get(1).get(2).narrow(0, 0, 2).narrow(1, 0, 2).mean(Kind::Float).double_value(&[]);
    assert!((same.redraw(&x).unwrap().double_value(&[1, 2, 1, 1]) - mean).abs() < 1e-5);
}

#[test]
fn what_is_no_decoder_is_refused_with_the_reason() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let text = folder.join("text.onnx");
    std::fs::write(&text, "not a model").unwrap();
    let classifier = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/spotd-edge.onnx");
    for (path, words) in [
        (folder.join("nowhere.onnx"), "No such file"),
        (text, "is not an ONNX model"),
        (classifier.into(), "float32 [1, 3,"),
        (write(folder, "smaller.onnx", vec![halve("x", "y")], None), "makes one of 104x104: a pair needs"),
        (
            write(folder, "point.onnx", vec![node("GlobalAveragePool", &["x"], "y", &[])], None),
            "makes one of 1x1",
        ),
        (
            write(folder, "grey.onnx", vec![node("Conv", &["x", "grey"], "y", &[])], None),
            "is a picture, float32 [1, 3, height, width]",
        ),
        (
            write(folder, "fixed.onnx", vec![node("Add", &["x", "plane"], "y", &[])], Some(64)),
            "no output of it",
        ),
        (
            write(folder, "bytes.onnx", vec![node("Mul", &["x", "bytes"], "y", &[])], None),
            "it must take and give RGB in 0..1",
        ),
        (write(folder, "same.onnx", vec![node("Identity", &["x"], "y", &[])], None), "untouched"),
    ] {
        let error = format!("{:#}", Decoder::open(&path, SIDE).unwrap_err());
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(error.contains(&name) && error.contains(words), "{error}");
    }
}

/// Noisy textures of different content.
fn texture(seed: u64) -> RgbImage {
    let mut rng = Rng::new(seed);
    let (base, x0, y0) = (rng.range(60.0, 180.0), rng.range(9.0, 40.0), rng.range(9.0, 40.0));
    RgbImage::from_fn(300, 280, |x, y| {
        let wave = 30.0 * ((x as f32 / x0).sin() + (y as f32 / y0).cos());
        Rgb([0, 1, 2].map(|_| (base + wave + 14.0 * rng.normal()).clamp(0.0, 255.0) as u8))
    })
}

fn put(path: &Path, picture: &RgbImage) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

/// Photographs, and a set whose generated pictures are the real ones, brighter.
fn data(folder: &Path) -> (PathBuf, PathBuf) {
    for seed in 0..16 {
        put(&folder.join(format!("photographs/{seed}.png")), &texture(seed));
    }
    for seed in 100..112 {
        let real = texture(seed);
        let mut fake = real.clone();
        fake.iter_mut().for_each(|v| *v = v.saturating_add(30));
        put(&folder.join(format!("sets/matched/0_real/{seed}.png")), &real);
        put(&folder.join(format!("sets/matched/1_fake/{seed}.png")), &fake);
        // Of the same numbers, and nothing else in common.
        put(&folder.join(format!("sets/numbered/0_real/{seed}.png")), &texture(seed + 50));
        put(&folder.join(format!("sets/numbered/1_fake/{seed}.png")), &texture(seed + 80));
    }
    (folder.join("photographs"), folder.join("sets"))
}

fn tiny() -> Net {
    let layers = vec![
        Layer::Normalise { mean: 0.5, deviation: 0.25 },
        Layer::Conv { channels: (3, 8), kernel: 3, stride: 2, bias: false, zero_sum: true },
        Layer::BatchNorm { channels: 8 },
        Layer::Relu,
        Layer::MeanPool,
        Layer::Linear { features: (8, 1) },
    ];
    Net { name: "tiny".into(), layers }
}

fn options(photos: PathBuf, run: PathBuf, decoder: PathBuf) -> Options {
    Options {
        photos: vec![photos],
        run,
        scenes: 0,
        budget: Duration::from_secs(3600),
        decoders: vec![decoder],
        decoders_only: true,
        workers: Some(2),
        batch: 4,
        side: 64,
        bf16: Some(false),
        most_steps: 80,
        rate: 5e-2,
        calibration_windows: 24,
        ..Options::default()
    }
}

#[test]
fn a_run_learns_from_a_decoder_alone_and_from_matched_sets() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let (photos, sets) = data(dir.path());
    let decoder = blocky(dir.path());
    let run = dir.path().join("run");
    let told = options(photos.clone(), run.clone(), decoder.clone());
    let outcome = resynth::train(&tiny(), &told).unwrap();
    assert!(outcome.loss.1 < 0.95 * outcome.loss.0, "loss {:?}", outcome.loss);
    // Goes on, with sets beside the pairs.
    let told = Options { sets: vec![sets], resume: true, most_steps: 3, ..told };
    let state = resynth::train(&tiny(), &told).unwrap().state;
    assert_eq!((state.decoders, state.decoders_only, state.steps), (vec!["blocky".into()], true, 83));
    // All pairs whose photograph is not held out; the other set has names in common, and no more.
    let trained = (100..112).filter(|n| !photos::is_held_out(Path::new(&format!("{n}.png")))).count();
    assert_eq!(state.matched, trained);
    assert!(!Run::new(&run).unwrap().bank().exists(), "no bank was trained");
    let card = export::export(&export::Options {
        run,
        out: dir.path().join("models"),
        measure_on: None,
        version: "1".into(),
        data: "textures".into(),
        known_failures: vec![],
    })
    .unwrap();
    let recipe = &card.training.recipe;
    assert!(
        recipe.contains("decoders of real generators (blocky)") && !recipe.contains("small networks"),
        "{recipe}"
    );
    assert!(card.training.data.contains(&format!("{trained} matched pairs")), "{}", card.training.data);

    // A mistake is found out before anything is written.
    let wrong = Options {
        decoders: vec![dir.path().join("none.onnx")],
        ..options(photos.clone(), dir.path().join("b"), decoder.clone())
    };
    let error = format!("{:#}", resynth::train(&tiny(), &wrong).unwrap_err());
    assert!(error.contains("none.onnx"), "{error}");
    let alone = Options { decoders: vec![], ..options(photos, dir.path().join("c"), decoder) };
    let error = format!("{:#}", resynth::train(&tiny(), &alone).unwrap_err());
    assert!(error.contains("--decoder FILE.onnx"), "{error}");
}

#[test]
fn a_pack_is_within_its_limit_or_not_there_and_trains() {
    tch::set_num_threads(1);
    let dir = tempfile::tempdir().unwrap();
    let (photos, sets) = data(dir.path());
    let decoder = autoencoder(dir.path());
    let told = pack::Options {
        photos: vec![photos.clone()],
        sets: vec![sets.clone()],
        decoder: vec![decoder.clone()],
        from: vec![],
        bank: None,
        out: dir.path().join("pack"),
        limit_mb: 0.5,
        crops: 1,
        side: 240,
        quality: 95,
        seed: 1,
    };
    let error = format!("{:#}", pack::pack(&told).unwrap_err());
    assert!(error.contains("MB of --limit-mb") && error.contains("the pack would have"), "{error}");
    let left: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("pack"))
        .collect();
    assert_eq!(left, Vec::<String>::new());

    let told = pack::Options { limit_mb: 20.0, ..told };
    let packed = pack::pack(&told).unwrap();
    assert_eq!(packed.photos, 16);
    assert_eq!(packed.sets, [("matched".into(), 12, 24), ("numbered".into(), 0, 24)]);
    let bytes: u64 = dataset::list_pictures(&told.out)
        .unwrap()
        .iter()
        .chain([&told.out.join("decoders/lossy.onnx")])
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert_eq!(packed.bytes, bytes);
    // Both of a pair are cut in one place.
    let of = dataset::find_sets(&told.out.join("sets")).unwrap();
    for (a, b) in of[0].real.iter().zip(&of[0].fake) {
        let (real, fake) = (dataset::load(a).unwrap(), dataset::load(b).unwrap());
        assert_eq!((real.dimensions(), fake.dimensions()), ((176, 176), (176, 176)));
        let lift: i32 = real.iter().zip(fake.iter()).map(|(a, b)| i32::from(*b) - i32::from(*a)).sum();
        let lift = f64::from(lift) / real.as_raw().len() as f64;
        assert!((20.0..=31.0).contains(&lift), "{lift}");
        assert_eq!(a.file_name(), b.file_name());
    }
    let again = format!("{:#}", pack::pack(&told).unwrap_err());
    assert!(again.contains("is there already"), "{again}");

    let from_pack = Options {
        sets: vec![told.out.join("sets")],
        most_steps: 3,
        ..options(told.out.join("photos"), dir.path().join("run"), told.out.join("decoders/lossy.onnx"))
    };
    let state = resynth::train(&tiny(), &from_pack).unwrap().state;
    let trained = (100..112).filter(|n| !photos::is_held_out(Path::new(&format!("{n}.png")))).count();
    assert_eq!((state.steps, state.matched), (3, trained), "what is held out here is held out there");

    let val = pack::Options { photos: vec![dir.path().join("val")], out: dir.path().join("p2"), ..told };
    put(&dir.path().join("val/1.png"), &texture(1));
    assert!(format!("{:#}", pack::pack(&val).unwrap_err()).contains("training never sees val"));
}
