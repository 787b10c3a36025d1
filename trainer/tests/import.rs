//! Checkpoints that PyTorch and torchvision wrote, read here: the answers must be PyTorch's own.

mod common;

use spotd::detector::Model;
use spotd::identity::Wanted;
use spotd_train::{
    import::{self, Options},
    module::Module,
    resnet::{Depth, imagenet, resnet},
    torchfile,
};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor, nn::VarStore};
use tract_onnx::prelude::*;

fn options(checkpoint: PathBuf, out: &Path) -> Options {
    Options {
        checkpoint,
        out: out.to_path_buf(),
        name: None,
        licence: "test".into(),
        data: "noise".into(),
        known_failure: vec![],
        measure_on: None,
    }
}

/// Logits of the ONNX file for `x` `[N, 3, 224, 224]`, one picture at a time.
fn tract(path: &Path, x: &Tensor) -> Vec<f32> {
    let plan = tract_onnx::onnx()
        .model_for_path(path)
        .unwrap()
        .with_input_fact(0, f32::fact([1, 3, 224, 224]).into())
        .unwrap()
        .into_optimized()
        .unwrap()
        .into_runnable()
        .unwrap();
    let mut logits = Vec::new();
    for at in 0..x.size()[0] {
        let values = Vec::<f32>::try_from(x.get(at).contiguous().view(-1)).unwrap();
        let one = tract_onnx::prelude::Tensor::from_shape(&[1, 3, 224, 224], &values).unwrap();
        let out = plan.run(tvec!(one.into())).unwrap();
        logits.extend(out[0].to_plain_array_view::<f32>().unwrap().iter());
    }
    logits
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn answers_are_pytorchs_own() {
    tch::set_num_threads(1);
    let Some(python) = common::python() else { return };
    let dir = tempfile::tempdir().unwrap();
    common::script(&python, "state_dicts.py", &[dir.path()]);
    for (name, network, outputs, tolerance) in [
        ("cnndetection", "resnet50", 1, 1e-4),
        ("imagenet18", "resnet18", 1000, 1e-4),
        ("parallel18", "resnet18", 1, 1e-4),
        // The weights were rounded to half precision on their way, which is not ours to undo.
        ("half18", "resnet18", 1, 2e-2),
    ] {
        let out = dir.path().join("out");
        let imported = import::import(&options(dir.path().join(format!("{name}.pth")), &out)).unwrap();
        assert_eq!((imported.net.name.as_str(), imported.outputs), (network, outputs));
        let answer = torchfile::read(&dir.path().join(format!("{name}.answer.safetensors"))).unwrap();
        let theirs = Vec::<f32>::try_from(answer["logits"].contiguous().view(-1)).unwrap();
        assert!(theirs.iter().any(|v| v.abs() > 0.01), "an answer of zeros proves nothing: {theirs:?}");
        let onnx = out.join(format!("{name}.onnx"));
        let by_tract = apart(&tract(&onnx, &answer["x"]), &theirs);
        assert!(by_tract < tolerance, "{name}: tract {by_tract}");

        // What was written as safetensors starts a network that says the same in libtorch.
        let depth = if network == "resnet50" { Depth::Resnet50 } else { Depth::Resnet18 };
        let known = resnet(depth, outputs, imagenet());
        let store = VarStore::new(Device::Cpu);
        let module = Module::new(&store.root(), &known.net);
        let weights = torchfile::read(&out.join(format!("{name}.safetensors"))).unwrap();
        import::assign(&store, &weights, &known, false).unwrap();
        let ours = tch::no_grad(|| module.forward(&answer["x"], false));
        let ours = Vec::<f32>::try_from(ours.to_kind(Kind::Float).contiguous().view(-1)).unwrap();
        let by_torch = apart(&ours, &theirs);
        assert!(by_torch < tolerance, "{name}: libtorch {by_torch}");
        println!("{name}: tract {by_tract:.1e}, libtorch {by_torch:.1e} from PyTorch");

        // The daemon takes a detector as it is; ImageNet's classifier has no card to be taken for
        // one.
        assert_eq!(Model::open(Some(&onnx), Wanted::Auto).is_ok(), outputs == 1, "{name}");
    }

    // ImageNet's weights start a detector: the backbone is theirs, the last layer new.
    let known = resnet(Depth::Resnet18, 1, imagenet());
    let store = VarStore::new(Device::Cpu);
    Module::new(&store.root(), &known.net);
    import::initialise(&store, Some(&known), &dir.path().join("imagenet18.pth")).unwrap();
    let theirs = torchfile::read(&dir.path().join("imagenet18.pth")).unwrap();
    let (_, ours) = known.names.iter().find(|(theirs, _)| theirs == "layer4.1.conv2").unwrap();
    assert_eq!(store.variables()[&format!("{ours}.weight")], theirs["layer4.1.conv2.weight"]);

    for (name, words) in [
        ("object.pth", "state_dict()"),
        ("lacking.pth", "layer3.2.bn1.bias"),
        ("nan.pth", "layer2.0.conv1.weight holds a value that is not a finite number"),
        ("linear.pth", "no fc.weight"),
        ("no-weights.pth", "\"lr\""),
        ("script.pt", "TorchScript"),
    ] {
        let out = dir.path().join("refused");
        let error = format!("{:#}", import::import(&options(dir.path().join(name), &out)).unwrap_err());
        assert!(error.contains(words) && error.contains(name), "{name}: {error}");
        assert!(!out.exists(), "{name}: nothing may be written");
    }
    let other = import::initialise(&store, Some(&known), &dir.path().join("cnndetection.pth"));
    assert!(format!("{:#}", other.unwrap_err()).contains("--net resnet50"));

    // Cut anywhere, either form is an error that names the file, and never a panic.
    for name in ["half18.pth", "parallel18.pth"] {
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        let cut = dir.path().join("cut.pth");
        for share in [0.0, 0.00001, 0.0001, 0.001, 0.01, 0.5, 0.999] {
            std::fs::write(&cut, &bytes[..(bytes.len() as f64 * share) as usize]).unwrap();
            let error = format!("{:#}", torchfile::read(&cut).unwrap_err());
            assert!(error.contains("cut.pth"), "{error}");
        }
    }
}

#[test]
fn a_full_disk_leaves_no_half_written_model() {
    let dir = tempfile::tempdir().unwrap();
    let known = resnet(Depth::Resnet18, 1, imagenet());
    let store = VarStore::new(Device::Cpu);
    Module::new(&store.root(), &known.net);
    let weights: Vec<(String, Tensor)> = store
        .variables()
        .into_iter()
        .map(|(ours, tensor)| {
            let (prefix, part) = ours.rsplit_once('.').unwrap();
            let (theirs, _) = known.names.iter().find(|(_, ours)| ours == prefix).unwrap();
            (format!("{theirs}.{part}"), tensor)
        })
        .collect();
    let checkpoint = dir.path().join("r18.safetensors");
    Tensor::write_safetensors(&weights, &checkpoint).unwrap();
    let out = dir.path().join("out");
    // Files may not grow: what a full disk does to a write, without needing one.
    let full = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_spotd-train"))
        .args([Path::new("import"), &checkpoint, Path::new("--out"), &out])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(2), "{said}");
    assert!(said.contains("r18.onnx: cannot be written"), "{said}");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0, "nothing half-written, nothing temporary");
    assert_eq!(
        import::import(&options(checkpoint, &out)).unwrap().files.len(),
        3,
        "and with room it is made"
    );
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("text.pth", b"hello".as_slice()),
        ("empty.pth", b""),
        ("pickle.pth", b"\x80\x02K\x01."),
        ("zip.pth", b"PK\x03\x04 and no more"),
        ("empty.safetensors", b""),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = format!("{:#}", torchfile::read(&path).unwrap_err());
        assert!(error.contains(name), "{error}");
    }
    let error = format!("{:#}", torchfile::read(&dir.path().join("nowhere.pth")).unwrap_err());
    assert!(error.contains("nowhere.pth") && error.contains("No such file"), "{error}");
}
