//! The container of a WebP: finds the first frame.

use crate::{Refusal, Warning};

/// Bytes before the first chunk: `RIFF`, a size, `WEBP`.
const RIFF_BYTES: usize = 12;

/// Flags of VP8X.
const ALPHA_FLAG: u8 = 0x10;
const ANIMATION_FLAG: u8 = 0x02;

/// The picture of a WebP, or its first frame. It lies within its canvas.
#[derive(Debug)]
pub(super) struct Frame<'file> {
    /// Pixels of the whole image.
    pub canvas: (u32, u32),
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
    pub kind: Kind<'file>,
    /// The data of the chunk `VP8 ` or `VP8L`.
    data: &'file [u8],
}

/// The kind, the data and the size of a picture.
type PictureParts<'file> = (Kind<'file>, &'file [u8], (u32, u32));

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind<'file> {
    Lossy,
    LossyWithAlpha {
        /// The data of the chunk `ALPH`.
        alpha: &'file [u8],
    },
    Lossless {
        has_alpha: bool,
    },
}

impl<'file> Frame<'file> {
    /// Finds the first frame. Adds a warning if the size of the file is wrong; the other warnings come with the
    /// [`Header`](crate::Header).
    ///
    /// # Errors
    /// [`Reason::Undecodable`](crate::Reason::Undecodable): there is no whole frame, or its sizes do not fit together.
    pub fn find(file: &'file [u8], warnings: &mut Vec<Warning>) -> Result<Self, Refusal> {
        let size = file.get(4..8).and_then(|size| size.first_chunk::<4>());
        let size = size.ok_or_else(cut)?;
        let end = 8_usize.saturating_add(u32::from_le_bytes(*size) as usize);
        // Programs that write to a pipe leave the size 0, and others do not update it.
        let inside = file.get(RIFF_BYTES..end).map(Chunks);
        if let Some(Ok(frame)) = inside.map(Self::find_in) {
            return Ok(frame);
        }
        let frame = Self::find_in(Chunks(file.get(RIFF_BYTES..).ok_or_else(cut)?))?;
        warnings.push(Warning::BadHeader);
        Ok(frame)
    }

    fn find_in(mut chunks: Chunks<'file>) -> Result<Self, Refusal> {
        let first = chunks.clone().next().ok_or_else(cut)?;
        if &first.kind != b"VP8X" {
            let (kind, data, size) = Picture::find(chunks).read()?;
            return Self::within(size, (0, 0), size, kind, data);
        }
        let extended = first.data.first_chunk::<10>().ok_or_else(cut)?;
        let &[flags, _, _, _, w0, w1, w2, h0, h1, h2] = extended;
        let canvas = (1 + u24([w0, w1, w2]), 1 + u24([h0, h1, h2]));
        if flags & ANIMATION_FLAG != 0 {
            let frame = chunks.find(|chunk| &chunk.kind == b"ANMF");
            return Self::of_animation(canvas, &frame.ok_or_else(cut)?);
        }
        let (kind, data, size) = Picture::find(chunks).read()?;
        if size != canvas {
            return Err(Refusal::undecodable(
                "the WebP says two sizes of its picture that differ",
            ));
        }
        Self::within(canvas, (0, 0), size, kind, data)
    }

    fn of_animation(canvas: (u32, u32), chunk: &Chunk<'file>) -> Result<Self, Refusal> {
        let (header, chunks) = chunk.data.split_first_chunk::<16>().ok_or_else(cut)?;
        let &[x0, x1, x2, y0, y1, y2, w0, w1, w2, h0, h1, h2, ..] = header;
        let place = (2 * u24([x0, x1, x2]), 2 * u24([y0, y1, y2]));
        let (kind, data, size) = Picture::find(Chunks(chunks)).read()?;
        if size != (1 + u24([w0, w1, w2]), 1 + u24([h0, h1, h2])) {
            return Err(Refusal::undecodable(
                "the WebP says two sizes of its first frame that differ",
            ));
        }
        Self::within(canvas, place, size, kind, data)
    }

    fn within(
        canvas: (u32, u32),
        (left, top): (u32, u32),
        (width, height): (u32, u32),
        kind: Kind<'file>,
        data: &'file [u8],
    ) -> Result<Self, Refusal> {
        if width == 0 || height == 0 || left + width > canvas.0 || top + height > canvas.1 {
            return Err(Refusal::undecodable(
                "the first frame of the WebP does not lie within its canvas",
            ));
        }
        Ok(Self {
            canvas,
            left,
            top,
            width,
            height,
            kind,
            data,
        })
    }

    pub fn covers_canvas(&self) -> bool {
        (self.width, self.height) == self.canvas
    }

    /// A WebP file of this frame alone. It says that a lossless picture has alpha: the decoder then writes RGBA to the memory
    /// that it is given, instead of memory of its own.
    pub fn to_file(&self) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
        if !matches!(self.kind, Kind::Lossy) {
            let [w0, w1, w2, _] = (self.width - 1).to_le_bytes();
            let [h0, h1, h2, _] = (self.height - 1).to_le_bytes();
            let extended = [ALPHA_FLAG, 0, 0, 0, w0, w1, w2, h0, h1, h2];
            push_chunk(&mut file, *b"VP8X", &extended);
        }
        if let Kind::LossyWithAlpha { alpha } = self.kind {
            push_chunk(&mut file, *b"ALPH", alpha);
        }
        let kind = match self.kind {
            Kind::Lossless { .. } => *b"VP8L",
            Kind::Lossy | Kind::LossyWithAlpha { .. } => *b"VP8 ",
        };
        push_chunk(&mut file, kind, self.data);
        let size = (file.len() - 8) as u32;
        file[4..8].copy_from_slice(&size.to_le_bytes());
        file
    }
}

fn push_chunk(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    file.extend(kind);
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    if data.len() % 2 == 1 {
        file.push(0);
    }
}

/// The first picture among some chunks.
#[derive(Debug, Default)]
struct Picture<'file> {
    alpha: Option<Chunk<'file>>,
    data: Option<Chunk<'file>>,
}

impl<'file> Picture<'file> {
    fn find(chunks: Chunks<'file>) -> Self {
        let mut picture = Self::default();
        for chunk in chunks {
            match &chunk.kind {
                // Alpha comes before the picture.
                b"ALPH" if picture.alpha.is_none() => picture.alpha = Some(chunk),
                b"VP8 " | b"VP8L" => {
                    picture.data = Some(chunk);
                    break;
                }
                _ => {}
            }
        }
        picture
    }

    fn read(&self) -> Result<PictureParts<'file>, Refusal> {
        let Some(Chunk {
            kind,
            data,
            is_whole: true,
        }) = self.data
        else {
            return Err(cut());
        };
        if &kind == b"VP8L" {
            let &[0x2F, b0, b1, b2, b3, ..] = data else {
                return Err(damaged());
            };
            let bits = u32::from_le_bytes([b0, b1, b2, b3]);
            let size = (1 + (bits & 0x3FFF), 1 + ((bits >> 14) & 0x3FFF));
            let has_alpha = (bits >> 28) & 1 != 0;
            return Ok((Kind::Lossless { has_alpha }, data, size));
        }
        let &[_, _, _, 0x9D, 0x01, 0x2A, w0, w1, h0, h1, ..] = data else {
            return Err(damaged());
        };
        // The two upper bits are a scale for viewers.
        let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3FFF);
        let kind = match self.alpha {
            Some(Chunk {
                is_whole: true,
                data: alpha,
                ..
            }) => Kind::LossyWithAlpha { alpha },
            _ => Kind::Lossy,
        };
        Ok((kind, data, (side([w0, w1]), side([h0, h1]))))
    }
}

/// One chunk. The file may end within it.
#[derive(Debug, Clone, Copy)]
struct Chunk<'file> {
    kind: [u8; 4],
    data: &'file [u8],
    is_whole: bool,
}

#[derive(Debug, Clone)]
struct Chunks<'file>(&'file [u8]);

impl<'file> Iterator for Chunks<'file> {
    type Item = Chunk<'file>;

    fn next(&mut self) -> Option<Chunk<'file>> {
        let (kind, rest) = self.0.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let is_whole = length <= rest.len();
        let (data, rest) = rest.split_at(length.min(rest.len()));
        // A chunk of odd length is followed by one byte.
        self.0 = rest.get(length % 2..).unwrap_or_default();
        Some(Chunk {
            kind: *kind,
            data,
            is_whole,
        })
    }
}

fn u24([b0, b1, b2]: [u8; 3]) -> u32 {
    u32::from_le_bytes([b0, b1, b2, 0])
}

fn cut() -> Refusal {
    Refusal::undecodable("the WebP is cut short")
}

fn damaged() -> Refusal {
    Refusal::undecodable("the header of the WebP is damaged")
}
