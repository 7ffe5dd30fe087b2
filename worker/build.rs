//! Compiles the functions of libtorch that `tch` does not offer. Sets the library path, so that the worker finds the
//! libtorch of the build without `LD_LIBRARY_PATH`.

const SOURCES: [&str; 3] = [
    "src/torch/libtorch.cc",
    "src/torch/torchscript.cc",
    "src/torch/aoti.cc",
];
const TORCHVISION: &str = "src/torch/torchvision";
const TORCHVISION_CC: [&str; 4] = ["register.cc", "nms.cc", "roi_align.cc", "deform_conv2d.cc"];

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    let libtorch = std::env::var("LIBTORCH")
        .expect("LIBTORCH is the folder of libtorch; .cargo/config.toml sets it");
    build(&libtorch).files(SOURCES).compile("darkroom_libtorch");
    println!("cargo:rerun-if-changed={TORCHVISION}/operators.h");
    let operators = TORCHVISION_CC.map(|file| format!("{TORCHVISION}/{file}"));
    for source in &operators {
        println!("cargo:rerun-if-changed={source}");
    }
    build(&libtorch)
        .files(&operators)
        .opt_level(3) // loops over pixels and boxes; at the level of the crate they would not use vectors
        .flag("-ffp-contract=off") // a fused product rounds another way: the scores of two machines would differ
        .compile("darkroom_torchvision");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    // An installed worker finds libtorch next to itself: bin/darkroom-worker and lib/libtorch_cpu.so.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
}

fn build(libtorch: &str) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .include(format!("{libtorch}/include"))
        .include(format!("{libtorch}/include/torch/csrc/api/include"))
        .warnings(false); // the headers of libtorch have warnings
    build
}
