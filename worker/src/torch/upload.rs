//! Images on their way to the device.

use std::sync::Mutex;

use tch::{Kind, TchError, Tensor};

use super::{device::Device, libtorch};

/// Free pinned memory, `u8[bytes]` each: as many buffers as there were passes at the same time.
///
/// The buffers do not belong to threads. At the end of a thread libtorch's thread-locals may be gone, and freeing needs them.
static FREE_BUFFERS: Mutex<Vec<Tensor>> = Mutex::new(Vec::new());

/// The images of one forward batch in the memory of the host, ready to be copied to the device.
#[derive(Debug)]
pub(super) struct Upload {
    /// `u8` of the requested size. Rows without an image have undefined values.
    pub pixels: Tensor,
    buffer: Option<Tensor>,
}

impl Upload {
    /// Copies the images, one after the other, into a `u8` tensor of `size`, `[n, height, width, 3]`.
    ///
    /// For a GPU the memory is pinned: the GPU reads it by itself while it runs another pass.
    pub(super) fn of(images: &[&[u8]], size: &[i64], device: Device) -> Result<Self, TchError> {
        if device.is_gpu() {
            return Self::pinned(images, size);
        }
        let pixels = match images {
            [image] => Tensor::f_from_data_size(image, size, Kind::Uint8),
            _ => Tensor::f_from_data_size(&images.concat(), size, Kind::Uint8),
        }?;
        let buffer = None;
        Ok(Self { pixels, buffer })
    }

    fn pinned(images: &[&[u8]], size: &[i64]) -> Result<Self, TchError> {
        let bytes = size.iter().product::<i64>();
        let free = FREE_BUFFERS
            .lock()
            .expect("no panic while it is held")
            .pop();
        let fitting = free.filter(|buffer| buffer.numel() >= bytes as usize);
        let buffer = fitting.map_or_else(|| libtorch::allocate_pinned(bytes), Ok)?;
        #[allow(unsafe_code)]
        // SAFETY: the tensor has at least `bytes` bytes, and no other reference to them exists.
        let mut rest = unsafe {
            std::slice::from_raw_parts_mut(buffer.data_ptr().cast::<u8>(), bytes as usize)
        };
        for image in images {
            let (place, others) = rest.split_at_mut(image.len());
            place.copy_from_slice(image);
            rest = others;
        }
        let pixels = buffer.f_narrow(0, 0, bytes)?.f_view(size)?;
        let buffer = Some(buffer);
        Ok(Self { pixels, buffer })
    }

    /// Makes the buffer available to other passes. Call it only when the output of the pass is on the host: then the copy
    /// is over.
    ///
    /// After a failed pass drop the upload instead: libtorch waits for the copy before it frees the memory.
    pub(super) fn release(self) {
        let mut free = FREE_BUFFERS.lock().expect("no panic while it is held");
        free.extend(self.buffer);
    }
}
