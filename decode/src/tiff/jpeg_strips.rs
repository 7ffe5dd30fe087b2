//! JPEG in TIFF. The crate `tiff` decodes a strip that is cut short as if it were whole, and does not convert YCbCr.

use std::io::Cursor;

use ::tiff::{
    ColorType,
    decoder::{ChunkType, Decoder},
    tags::Tag,
};

use super::{refusal, unusual};
use crate::{Format, Header, Limits, Refusal, Warning, jpeg};

pub(super) fn decode(
    decoder: &mut Decoder<Cursor<&[u8]>>,
    file: &[u8],
    header: &Header,
    limits: &Limits,
    rgb: &mut Vec<u8>,
    warnings: &mut Vec<Warning>,
) -> Result<(), Refusal> {
    let planes = decoder.find_tag_unsigned(Tag::PlanarConfiguration);
    let is_planar = planes.map_err(refusal)?.unwrap_or(1_u16) != 1;
    if is_planar || decoder.get_chunk_type() != ChunkType::Strip {
        return Err(unusual());
    }
    let transform = match decoder.colortype().map_err(refusal)? {
        ColorType::Gray(8) | ColorType::YCbCr(8) => 1,
        ColorType::RGB(8) => 0,
        _ => return Err(unusual()),
    };
    let tables = decoder.find_tag(Tag::JPEGTables).map_err(refusal)?;
    let tables = tables
        .map(tiff::decoder::ifd::Value::into_u8_vec)
        .transpose();
    let tables = tables.map_err(refusal)?.unwrap_or_default();
    let offsets = decoder.get_tag_u64_vec(Tag::StripOffsets);
    let lengths = decoder.get_tag_u64_vec(Tag::StripByteCounts);
    let strips = offsets.map_err(refusal)?.into_iter();
    let mut strips = strips.zip(lengths.map_err(refusal)?);

    let limits = Limits {
        formats: vec![Format::Jpeg],
        ..limits.clone()
    };
    let rows_max = decoder.chunk_dimensions().1.clamp(1, header.height);
    let mut rows_left = header.height;
    while rows_left > 0 {
        let (offset, length) = strips.next().ok_or_else(unusual)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let strip = file.get(start..start.saturating_add(length));
        let strip = strip.ok_or_else(|| Refusal::undecodable("the TIFF is cut short"))?;
        let jpeg = whole_jpeg(&tables, strip, transform).ok_or_else(unusual)?;
        // The strip has a size of its own, which may be a lie.
        let strip_header = Header::read(Cursor::new(&jpeg), &limits)?;
        let rows = rows_max.min(rows_left);
        let has_rows = (rows..=rows_max).contains(&strip_header.height);
        if strip_header.width != header.width || !has_rows {
            return Err(unusual());
        }
        limits.check_bytes(strip_header.decode_bytes(1.0))?;
        let size = (strip_header.width, strip_header.height);
        let strip = jpeg::decode(&jpeg, size, 1.0, Vec::new(), warnings)?;
        let bytes = 3 * header.width as usize * rows as usize;
        rgb.extend_from_slice(strip.as_raw().get(..bytes).ok_or_else(unusual)?);
        rows_left -= rows;
    }
    Ok(())
}

/// A JPEG file of one strip, with the tables that all strips share. An Adobe marker says whether the colors are YCbCr: without
/// one, a decoder takes RGB for YCbCr.
fn whole_jpeg(tables: &[u8], strip: &[u8], transform: u8) -> Option<Vec<u8>> {
    let mut jpeg = b"\xFF\xD8\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0".to_vec();
    jpeg.push(transform);
    // The tables are a JPEG of their own, from its start mark to its end mark.
    if !tables.is_empty() {
        let tables = tables.strip_prefix(b"\xFF\xD8")?;
        jpeg.extend(tables.strip_suffix(b"\xFF\xD9").unwrap_or(tables));
    }
    jpeg.extend(strip.strip_prefix(b"\xFF\xD8")?);
    Some(jpeg)
}
