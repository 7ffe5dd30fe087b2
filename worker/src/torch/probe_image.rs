//! The images on which a worker tries a model when it loads the model.

/// Two images of `bytes` bytes that differ in brightness, contrast and pattern. Both have many gray levels, so that every layer
/// has something to compute.
pub fn probe_images(bytes: usize) -> [Vec<u8>; 2] {
    let image = |pixel: fn(usize) -> usize| (0..bytes).map(|at| pixel(at) as u8).collect();
    [image(|at| at * 31 % 251), image(|at| at * 17 % 97 + 60)]
}

/// Further images: dark, bright, gray. Some models give one answer to both [`probe_images`], and another one to these.
pub fn other_probe_images(bytes: usize) -> [Vec<u8>; 3] {
    let image = |pixel: fn(usize) -> usize| (0..bytes).map(|at| pixel(at) as u8).collect();
    [
        image(|at| at * 7 % 13),
        image(|at| at * 13 % 31 + 224),
        image(|at| at * 5 % 7 + 125),
    ]
}
