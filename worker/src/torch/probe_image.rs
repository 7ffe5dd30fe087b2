//! The images on which a worker tries a model when it loads the model.

/// Two images of `bytes` bytes that differ in brightness, contrast and pattern. Both have many gray levels, so that every layer
/// has something to compute.
pub fn probe_images(bytes: usize) -> [Vec<u8>; 2] {
    let image = |pixel: fn(usize) -> usize| (0..bytes).map(|at| pixel(at) as u8).collect();
    [image(|at| at * 31 % 251), image(|at| at * 17 % 97 + 60)]
}
