//! The memory that a worker and its decoder share: one file for the encoded image and one for the pixels.
//!
//! Both files lie in memory (`memfd_create`) and have their largest size from the start. Pages are taken when they are first
//! written. No process can change the size of a sealed file, so no decoder can make the parent read behind its end (`SIGBUS`).

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, RawFd},
        unix::fs::FileExt,
    },
};

use memmap2::{Mmap, MmapMut, MmapOptions};
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};

/// The parent's side.
#[derive(Debug)]
pub(super) struct SharedMemory {
    image: File,
    image_bytes_max: usize,
    pixels_file: File,
    pixels: Mmap,
}

impl SharedMemory {
    pub(super) fn new(image_bytes_max: usize, pixel_bytes_max: usize) -> io::Result<Self> {
        let image = sealed_file("darkroom-image", image_bytes_max)?;
        let pixels_file = sealed_file("darkroom-pixels", pixel_bytes_max)?;
        #[allow(unsafe_code)]
        // SAFETY: the file is sealed, so every page of the mapping stays readable. The decoder writes only while the parent
        // waits for its answer. A decoder that an image took over may write at any time: then the parent reads other bytes
        // than before. Any byte is a valid color, and no code of the parent branches on one.
        let pixels = unsafe { MmapOptions::new().len(pixel_bytes_max).map(&pixels_file)? };
        Ok(Self {
            image,
            image_bytes_max,
            pixels_file,
            pixels,
        })
    }

    /// The files of the image and of the pixels, for the decoder.
    pub(super) fn files(&self) -> [BorrowedFd<'_>; 2] {
        [self.image.as_fd(), self.pixels_file.as_fd()]
    }

    pub(super) fn image_bytes_max(&self) -> usize {
        self.image_bytes_max
    }

    pub(super) fn pixel_bytes_max(&self) -> usize {
        self.pixels.len()
    }

    pub(super) fn write_image(&self, bytes: &[u8]) -> io::Result<()> {
        self.image.write_all_at(bytes, 0)
    }

    /// The first bytes of the pixels.
    pub(super) fn pixels(&self, bytes: usize) -> &[u8] {
        &self.pixels[..bytes]
    }

    /// Gives the pages of the image back to the system. Later reads find zeros.
    pub(super) fn free_image(&self) -> io::Result<()> {
        free(&self.image, self.image_bytes_max)
    }

    /// Gives the pages of the pixels back to the system. Later reads find zeros.
    pub(super) fn free_pixels(&self) -> io::Result<()> {
        free(&self.pixels_file, self.pixels.len())
    }
}

fn free(file: &File, bytes: usize) -> io::Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    Ok(fallocate(file, flags, 0, bytes as libc::off_t)?)
}

/// A file in memory, of this size for ever.
fn sealed_file(name: &str, bytes: usize) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Linux 6.3 and later: the file can never be a program. Older systems do not know the flag.
    let no_program = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let file = match memfd_create(name, flags | no_program) {
        Err(Errno::EINVAL) => memfd_create(name, flags)?,
        created => created?,
    };
    let file = File::from(file);
    file.set_len(bytes as u64)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// The decoder's side: the encoded image, which cannot be written, and the pixels.
#[derive(Debug)]
pub(super) struct MappedMemory {
    pub image: Mmap,
    pub pixels: MmapMut,
}

impl MappedMemory {
    /// Maps the two files that came from the parent, and closes them.
    pub(super) fn map([image, pixels]: [RawFd; 2]) -> io::Result<Self> {
        #[allow(unsafe_code)]
        // SAFETY: the parent sealed both files. It writes the image only while the decoder waits for a request, and never
        // writes pixels.
        let mapped = unsafe {
            Self {
                image: MmapOptions::new().map(image)?,
                pixels: MmapOptions::new().map_mut(pixels)?,
            }
        };
        nix::unistd::close(image)?;
        nix::unistd::close(pixels)?;
        Ok(mapped)
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::IntoRawFd, unix::fs::MetadataExt};

    use super::{MappedMemory, SharedMemory};

    fn memory() -> (SharedMemory, MappedMemory) {
        let parent = SharedMemory::new(10_000, 1 << 20).expect("memory");
        let files = parent
            .files()
            .map(|file| file.try_clone_to_owned().expect("a copy").into_raw_fd());
        let child = MappedMemory::map(files).expect("mapped");
        (parent, child)
    }

    #[test]
    fn each_side_reads_what_the_other_one_wrote() {
        let (parent, mut child) = memory();
        parent.write_image(b"an image").expect("written");
        assert_eq!(&child.image[..8], b"an image");
        child.pixels[..3].copy_from_slice(&[1, 2, 3]);
        assert_eq!(parent.pixels(4), [1, 2, 3, 0]);
    }

    #[test]
    fn no_side_can_change_the_size_of_a_file() {
        let (parent, _child) = memory();
        for bytes in [0, 1 << 30] {
            parent.image.set_len(bytes).expect_err("sealed");
            parent.pixels_file.set_len(bytes).expect_err("sealed");
        }
        parent.write_image(&[7; 10_001]).expect_err("too long");
    }

    #[test]
    fn freed_pixels_take_no_memory_and_can_be_written_again() {
        let (parent, mut child) = memory();
        let blocks = || parent.pixels_file.metadata().expect("metadata").blocks();
        assert_eq!(blocks(), 0, "pages are taken when they are written");
        child.pixels.fill(7);
        assert!(blocks() > 0);
        parent.free_pixels().expect("freed");
        assert_eq!((blocks(), parent.pixels(1)[0]), (0, 0));
        child.pixels[0] = 9;
        assert_eq!(parent.pixels(1), [9]);
    }
}
