//! The size of the coded pixels of an item. A decoder allocates by this size. libheif checks only the size in the header of
//! the file.

use std::borrow::Cow;

use super::{boxes::Bytes, meta::Meta};

/// Most pixels by which a coded side may exceed the side in the header. Encoders code whole blocks of up to 128 pixels.
const BLOCK_PX: u32 = 128;

/// Checks every item that is decoded to make the primary item: its codec, and the size of its coded pixels.
///
/// # Errors
/// One sentence for the client.
pub(crate) fn check<'a>(meta: &Meta<'a>, file: &'a [u8], codec: Codec) -> Result<(), &'static str> {
    const BROKEN: &str = "the image cannot be decoded: its header is cut short or broken";
    for item in meta.decoded(meta.primary).ok_or(BROKEN)? {
        match meta.kind(item).ok_or(BROKEN)? {
            // Made from other items, which are checked on their own.
            b"grid" | b"iovl" | b"iden" => continue,
            kind if codec.item_kinds().contains(&kind) => {}
            _ => return Err("the image is coded in a way that is not accepted here"),
        }
        let (width, height) = meta.size(item).ok_or(BROKEN)?;
        let data = meta.data(item, file);
        let data = data.ok_or("the image is cut short")?;
        for (coded_width, coded_height) in codec.coded_sizes(meta, item, &data).ok_or(BROKEN)? {
            let is_fit = coded_width <= width.saturating_add(BLOCK_PX)
                && coded_height <= height.saturating_add(BLOCK_PX);
            if !is_fit {
                return Err("the image has more pixels than its header says");
            }
        }
    }
    Ok(())
}

/// The codec of a format.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Codec {
    Hevc,
    Av1,
}

impl Codec {
    fn item_kinds(self) -> &'static [&'static [u8; 4]] {
        match self {
            Self::Hevc => &[b"hvc1", b"hev1"],
            Self::Av1 => &[b"av01"],
        }
    }

    /// Every size that the item's data and its configuration tell. Nothing if these are broken.
    fn coded_sizes(self, meta: &Meta, item: u32, data: &[u8]) -> Option<Vec<(u32, u32)>> {
        match self {
            Self::Hevc => hevc_sizes(meta.property(item, *b"hvcC")?, data),
            Self::Av1 => {
                let mut config = meta.property(item, *b"av1C")?;
                config.take(4)?;
                let mut sizes = av1_sizes(config.0)?;
                sizes.extend(av1_sizes(data)?);
                Some(sizes)
            }
        }
    }
}

/// The sizes in all sequence parameter sets: of the configuration, and of the data.
fn hevc_sizes(mut config: Bytes, data: &[u8]) -> Option<Vec<(u32, u32)>> {
    let mut sizes = Vec::new();
    let fixed = config.take(22)?;
    let length_bytes = (fixed[21] & 3) + 1;
    for _ in 0..config.u8()? {
        config.u8()?;
        for _ in 0..config.u16()? {
            let length = config.u16()?;
            sizes.extend(hevc_size(config.take(length.into())?)?);
        }
    }
    let mut data = Bytes(data);
    while !data.0.is_empty() {
        let length = data.uint(length_bytes)?;
        sizes.extend(hevc_size(data.take(length as usize)?)?);
    }
    Some(sizes)
}

/// `chroma_format_idc` of 4:4:4.
const WITH_ALL_COLORS: u32 = 3;

/// The size in a sequence parameter set; none for other units.
///
/// Nothing if the set is broken.
#[expect(
    clippy::option_option,
    reason = "no size, and no sense, are two outcomes"
)]
fn hevc_size(unit: &[u8]) -> Option<Option<(u32, u32)>> {
    const SEQUENCE_PARAMETER_SET: u8 = 33;
    if unit.first().map(|byte| byte >> 1 & 0x3f) != Some(SEQUENCE_PARAMETER_SET) {
        return Some(None);
    }
    let unescaped = unescape(unit.get(2..)?);
    let mut bits = Bits::new(&unescaped);
    bits.skip(4)?;
    let sub_layers = bits.read(3)?;
    bits.skip(1 + 96)?; // nesting; profile and level
    if sub_layers > 0 {
        let mut skipped = 0;
        for place in 0..8 {
            let (has_profile, has_level) = (bits.read(1)?, bits.read(1)?);
            if place < sub_layers {
                skipped += has_profile * 88 + has_level * 8;
            }
        }
        bits.skip(skipped)?;
    }
    bits.exp_golomb()?;
    if bits.exp_golomb()? == WITH_ALL_COLORS {
        bits.skip(1)?;
    }
    Some(Some((bits.exp_golomb()?, bits.exp_golomb()?)))
}

/// Removes the bytes that keep a unit from looking like a start code: 00 00 03 becomes 00 00.
fn unescape(unit: &[u8]) -> Cow<'_, [u8]> {
    if !unit.windows(3).any(|window| window == [0, 0, 3]) {
        return Cow::Borrowed(unit);
    }
    let mut unescaped = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        unescaped.push(byte);
    }
    Cow::Owned(unescaped)
}

/// The sizes in all sequence headers among the units ("OBU") of AV1.
fn av1_sizes(units: &[u8]) -> Option<Vec<(u32, u32)>> {
    const SEQUENCE_HEADER: u8 = 1;
    let mut sizes = Vec::new();
    let mut units = Bytes(units);
    while !units.0.is_empty() {
        let header = units.u8()?;
        let (has_extension, has_length) = (header >> 2 & 1 == 1, header >> 1 & 1 == 1);
        if has_extension {
            units.u8()?;
        }
        let length = if has_length {
            usize::try_from(leb128(&mut units)?).ok()?
        } else {
            units.0.len()
        };
        let unit = units.take(length)?;
        if header >> 3 & 15 == SEQUENCE_HEADER {
            sizes.push(av1_size(unit)?);
        }
    }
    Some(sizes)
}

fn leb128(units: &mut Bytes) -> Option<u64> {
    let mut value = 0;
    for place in 0..8 {
        let byte = units.u8()?;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The largest size of a frame in a sequence header.
fn av1_size(unit: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::new(unit);
    bits.skip(3 + 1)?;
    let is_reduced = bits.read(1)? == 1;
    if is_reduced {
        bits.skip(5)?;
    } else {
        let mut delay_bits = None;
        let has_timing = bits.read(1)? == 1;
        if has_timing {
            bits.skip(64)?;
            let is_regular = bits.read(1)? == 1;
            if is_regular {
                bits.exp_golomb()?;
            }
            let has_decoder_model = bits.read(1)? == 1;
            if has_decoder_model {
                delay_bits = Some(bits.read(5)? + 1);
                bits.skip(32 + 5 + 5)?;
            }
        }
        let has_display_delay = bits.read(1)? == 1;
        for _ in 0..=bits.read(5)? {
            bits.skip(12)?;
            if bits.read(5)? > 7 {
                bits.skip(1)?;
            }
            if let Some(delay_bits) = delay_bits
                && bits.read(1)? == 1
            {
                bits.skip(2 * delay_bits + 1)?;
            }
            if has_display_delay && bits.read(1)? == 1 {
                bits.skip(4)?;
            }
        }
    }
    let (width_bits, height_bits) = (bits.read(4)? + 1, bits.read(4)? + 1);
    Some((bits.read(width_bits)? + 1, bits.read(height_bits)? + 1))
}

/// Bits from the highest of the first byte. Each method returns nothing if there are too few.
struct Bits<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, place: 0 }
    }

    /// An integer of up to 32 bits.
    fn read(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.place / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.place % 8) & 1);
            self.place += 1;
        }
        Some(value)
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        self.place += count as usize;
        (self.place <= self.bytes.len() * 8).then_some(())
    }

    /// An unsigned Exp-Golomb code. AV1 names the code `uvlc`.
    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.read(1)? == 0 {
            zeros += 1;
        }
        if zeros > 31 {
            return None;
        }
        Some((1 << zeros) - 1 + self.read(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bits, av1_size, unescape};

    #[test]
    fn exp_golomb_codes_are_read() {
        // 1 | 010 | 011 | 00100 | 0001000
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0001, 0b0000_0000]);
        let values: Vec<_> = std::iter::from_fn(|| bits.exp_golomb()).collect();
        assert_eq!(values, [0, 1, 2, 3, 7]);
    }

    #[test]
    fn escapes_are_removed() {
        assert_eq!(*unescape(&[0, 0, 3, 1]), [0, 0, 1]);
        assert_eq!(*unescape(&[0, 0, 3, 0, 0, 3, 0]), [0, 0, 0, 0, 0]);
        assert_eq!(*unescape(&[0, 0, 3, 3]), [0, 0, 3]);
        assert_eq!(*unescape(&[1, 0, 3, 0]), [1, 0, 3, 0]);
    }

    #[test]
    fn a_reduced_sequence_header_of_av1_tells_the_size() {
        // profile 0, still, reduced, level 0; sides of 9 bits each: 450 + 1 and 299 + 1
        let bits = format!("000{}{}00000{:04b}{:04b}{:09b}{:09b}", 1, 1, 8, 8, 450, 299);
        let bytes: Vec<u8> = bits
            .as_bytes()
            .chunks(8)
            .map(|byte| {
                byte.iter()
                    .enumerate()
                    .fold(0, |sum, (place, bit)| sum | (bit - b'0') << (7 - place))
            })
            .collect();
        assert_eq!(av1_size(&bytes), Some((451, 300)));
    }
}
