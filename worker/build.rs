//! Compiles what `tch` lacks, and lets a plain start find the libtorch that the build used, without
//! `LD_LIBRARY_PATH`.

const LIBTORCH_CC: &str = "src/torch/libtorch.cc";

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed={LIBTORCH_CC}");
    let libtorch = std::env::var("LIBTORCH")
        .expect("LIBTORCH names libtorch's folder: .cargo/config.toml does");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(format!("{libtorch}/include"))
        .include(format!("{libtorch}/include/torch/csrc/api/include"))
        .warnings(false) // libtorch's headers, not ours
        .file(LIBTORCH_CC)
        .compile("darkroom_libtorch");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    // An installed worker finds it beside itself: bin/darkroom-worker and lib/libtorch_cpu.so.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
}
