//! Images on their way to the device.

use std::sync::Mutex;

use tch::{Kind, TchError, Tensor};

use super::{device::Device, libtorch};

/// Pinned memory that no pass is using, `u8[bytes]` each: as many as there were passes at once.
///
/// Not kept by thread: at a thread's end libtorch's own thread-locals may be gone first, and freeing needs them.
static FREE: Mutex<Vec<Tensor>> = Mutex::new(Vec::new());

/// A batch in the host's memory, ready to be copied.
#[derive(Debug)]
pub(super) struct Gathered {
    /// `u8` of the size that was asked for. The rows without an image say nothing.
    pub batch: Tensor,
    pinned: Option<Tensor>,
}

impl Gathered {
    /// One after the other in memory that the device copies fast, as `u8` of `size`, `[n, height, width, 3]`: a GPU fetches them
    /// from pinned memory by itself, while it runs another batch.
    pub(super) fn of(images: &[&[u8]], size: &[i64], device: Device) -> Result<Self, TchError> {
        if device.is_gpu() {
            return Self::pinned(images, size);
        }
        let batch = match images {
            [image] => Tensor::f_from_data_size(image, size, Kind::Uint8),
            _ => Tensor::f_from_data_size(&images.concat(), size, Kind::Uint8),
        }?;
        let pinned = None;
        Ok(Self { batch, pinned })
    }

    fn pinned(images: &[&[u8]], size: &[i64]) -> Result<Self, TchError> {
        let bytes = size.iter().product::<i64>();
        let free = FREE.lock().expect("no panic while it is held").pop();
        let fits = free.filter(|pinned| pinned.numel() >= bytes as usize);
        let pinned = fits.map_or_else(|| libtorch::pinned(bytes), Ok)?;
        #[allow(unsafe_code)]
        // SAFETY: so many bytes are this tensor's, and nobody else has it.
        let mut rest = unsafe {
            std::slice::from_raw_parts_mut(pinned.data_ptr().cast::<u8>(), bytes as usize)
        };
        for image in images {
            let (place, others) = rest.split_at_mut(image.len());
            place.copy_from_slice(image);
            rest = others;
        }
        let batch = pinned.f_narrow(0, 0, bytes)?.f_view(size)?;
        let pinned = Some(pinned);
        Ok(Self { batch, pinned })
    }

    /// The copy is over: whoever has the output of the pass knows. After a pass that failed nobody does, and libtorch waits
    /// before it frees the memory.
    pub(super) fn copied(self) {
        let mut free = FREE.lock().expect("no panic while it is held");
        free.extend(self.pinned);
    }
}
