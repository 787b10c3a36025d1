//! What is where in files of `torch.save`, in both of their forms, and in safetensors, read without Python and without
//! libtorch.
//!
//! `torch.save` writes a zip archive since PyTorch 1.6; before, and in the published CNNDetection checkpoints, a sequence of
//! pickles followed by raw storages. tch itself reads neither (its reader wants TorchScript and refuses an OrderedDict).
//! Nothing in a pickle is ever executed, and no more is allocated than the file has bytes. Sizes, strides and offsets that
//! lead out of a storage are errors.
//!
//! ```
//! use spotd_torchfile::safetensors;
//!
//! let header = br#"{"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}"#;
//! let mut file = (header.len() as u64).to_le_bytes().to_vec();
//! file.extend(header);
//! file.extend([0; 8]);
//! let found = safetensors::parse(&file)?;
//! assert_eq!(found["weight"].size, [2]);
//!
//! // Two numbers less than the header promises.
//! assert!(safetensors::parse(&file[..file.len() - 8]).is_err());
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod parse;
pub mod pickle;
pub mod safetensors;
