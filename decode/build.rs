//! Compiles `jpeg.c` with the headers of the libjpeg-turbo that `turbojpeg-sys` built.

const JPEG_C: &str = "src/jpeg.c";

fn main() {
    println!("cargo:rerun-if-changed={JPEG_C}");
    let folders = std::env::var("DEP_TURBOJPEG_INCLUDE").expect("turbojpeg-sys names its headers");
    cc::Build::new()
        .std("c11")
        .includes(folders.split(','))
        .extra_warnings(true)
        .file(JPEG_C)
        .compile("darkroom_jpeg");
}
