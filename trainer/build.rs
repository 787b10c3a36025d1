//! Tells the linker where libtorch is, so that the trainer runs without `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // torch-sys has `links = "tch"` and exports this; docs-only builds have no library.
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
        // CUDA and the dispatcher register through static initialisers, which `--as-needed` would
        // drop.
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
    }
}
