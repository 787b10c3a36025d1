//! A Python with PyTorch and torchvision, to hold our figures against: `tools/torch-venv.sh` makes
//! it.

#![allow(dead_code, reason = "each test file uses its part")]

use image::{Rgb, RgbImage};
use spotd::forensics::rng::Rng;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The Python of `tools/torch-venv.sh`; says loudly where there is none.
pub fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("SPOTD_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/spotd")));
    let python = cache.map(|cache| cache.join("torch-venv/bin/python")).filter(|path| path.exists());
    if python.is_none() {
        eprintln!(
            "\n*** SKIPPED: no Python with PyTorch to compare with; `tools/torch-venv.sh` makes one ***\n"
        );
    }
    python
}

/// Runs a script of `tests/python`; gives what it printed.
pub fn script(python: &Path, name: &str, arguments: &[&Path]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name);
    let output = Command::new(python)
        .arg(&script)
        .args(arguments)
        // Another libtorch must not be found first.
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A picture with detail at the pixel; a fake one has a lattice of period 4 laid over it.
pub fn picture(seed: u64, fake: bool, width: u32, height: u32) -> RgbImage {
    let mut rng = Rng::new(seed);
    let base = rng.range(70.0, 180.0);
    let (fx, fy) = (rng.range(7.0, 19.0), rng.range(7.0, 19.0));
    RgbImage::from_fn(width, height, |x, y| {
        let wave = 30.0 * ((x as f32 / fx).sin() + (y as f32 / fy).cos());
        let lattice = if fake && (x % 4 == 0) != (y % 4 == 0) { 24.0 } else { 0.0 };
        Rgb([0, 1, 2].map(|_| (base + wave + lattice + 8.0 * rng.normal()).clamp(0.0, 255.0) as u8))
    })
}

/// `n` real and `n` fake pictures below `folder`, in the paper's layout, one class a name.
pub fn put_classes(folder: &Path, classes: &[&str], n: u64) {
    for (class, name) in classes.iter().enumerate() {
        for (kind, fake) in [("0_real", false), ("1_fake", true)] {
            let place = folder.join(name).join(kind);
            std::fs::create_dir_all(&place).unwrap();
            for at in 0..n {
                let seed = 1000 * class as u64 + 2 * at + u64::from(fake);
                picture(seed, fake, 72, 66).save(place.join(format!("{at}.png"))).unwrap();
            }
        }
    }
}
