//! Lets a plain start find the libtorch that the build used, without `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
    // An installed worker finds it beside itself: bin/darkroom-worker and lib/libtorch_cpu.so.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
}
