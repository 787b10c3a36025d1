//! What has to hold for any file that is given as one of `torch.save` or as safetensors.

use spotd_torchfile::{parse, pickle, safetensors};

/// A checkpoint: an error, or tensors that lie within their storages and are no larger than these.
pub fn torchfile(bytes: &[u8]) {
    let Ok(found) = parse::parse(bytes.to_vec()) else { return };
    assert!(!found.tensors.is_empty());
    let all: usize = found.storages.values().map(|storage| storage.bytes.len()).sum();
    assert!(all <= bytes.len(), "{all} bytes of numbers in a file of {}", bytes.len());
    for (name, tensor) in &found.tensors {
        let storage = &found.storages[&tensor.storage];
        assert_eq!(storage.bytes.len() as i64, storage.numel * storage.number.size() as i64, "{name}");
        assert_eq!(tensor.size.len(), tensor.stride.len(), "{name}");
        if tensor.size.contains(&0) {
            continue;
        }
        let far: i64 = tensor.size.iter().zip(&tensor.stride).map(|(n, step)| (n - 1) * step).sum();
        assert!(tensor.offset >= 0 && tensor.offset + far < storage.numel, "{name} {tensor:?}");
        assert!(tensor.size.iter().product::<i64>() <= storage.numel, "{name} {tensor:?}");
    }
}

/// A pickle alone: it takes no more bytes than there are.
pub fn pickle(bytes: &[u8]) {
    if let Ok(found) = pickle::read(bytes) {
        assert!(found.taken <= bytes.len());
    }
}

/// A safetensors file: an error that says a way out, or tensors as large as their bytes, each byte of one tensor.
pub fn safetensors(bytes: &[u8]) {
    match safetensors::parse(bytes) {
        Ok(found) => {
            let all: usize = found.values().map(|tensor| tensor.bytes.len()).sum();
            assert!(all <= bytes.len());
            for (name, tensor) in &found {
                let numel: i64 = tensor.size.iter().product();
                assert!(bytes.get(tensor.bytes.clone()).is_some(), "{name} {tensor:?}");
                assert_eq!(numel as usize * tensor.number.size(), tensor.bytes.len(), "{name}");
            }
        }
        Err(error) => {
            let error = format!("{error:#}");
            assert!(error.contains("save"), "{error}");
        }
    }
}
