//! Compiles the functions of libtorch that `tch` does not offer. Sets the library path, so that the worker finds the
//! libtorch of the build without `LD_LIBRARY_PATH`.

const SOURCES: [&str; 2] = ["src/torch/libtorch.cc", "src/torch/aoti.cc"];

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    let libtorch = std::env::var("LIBTORCH")
        .expect("LIBTORCH is the folder of libtorch; .cargo/config.toml sets it");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(format!("{libtorch}/include"))
        .include(format!("{libtorch}/include/torch/csrc/api/include"))
        .warnings(false) // the headers of libtorch have warnings
        .files(SOURCES)
        .compile("darkroom_libtorch");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    // An installed worker finds libtorch next to itself: bin/darkroom-worker and lib/libtorch_cpu.so.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
}
