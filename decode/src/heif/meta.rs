//! What a HEIF file says of its items (ISO/IEC 23008-12): an item is an image, a tile, a thumbnail, EXIF data and so on.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use super::boxes::{Bytes, IsoBox};

/// Most levels of images that are made from other images. Real files have one: a grid of tiles.
const DERIVATION_DEPTH_MAX: usize = 4;

/// Most pieces that items are stored in. Real files have one for each item.
const EXTENTS_MAX: usize = 1 << 16;

/// The content of the box `meta`.
#[derive(Debug, Default)]
pub(crate) struct Meta<'a> {
    pub primary: u32,
    kinds: HashMap<u32, [u8; 4]>,
    properties: Vec<IsoBox<'a>>,
    /// Places in `properties`, from 1, in the order in which they apply.
    properties_of: HashMap<u32, Vec<u16>>,
    /// Items that an item is made from, such as the tiles of a grid.
    sources: HashMap<u32, Vec<u32>>,
    /// Auxiliary items, and the items that each belongs to.
    auxiliaries: Vec<(u32, Vec<u32>)>,
    locations: HashMap<u32, Location>,
    /// Bytes of items that are stored within the box `meta`.
    data: &'a [u8],
}

#[derive(Debug)]
struct Location {
    is_in_meta: bool,
    /// Offset and length. Length 0 means the rest.
    extents: Vec<(u64, u64)>,
}

impl<'a> Meta<'a> {
    /// Nothing if the box is broken.
    pub fn parse(meta: &'a [u8]) -> Option<Self> {
        let mut content = Bytes(meta);
        content.version_and_flags()?;
        let mut parsed = Self::default();
        let mut has_primary = false;
        for IsoBox { kind, content } in content.boxes()? {
            match &kind {
                b"pitm" => {
                    parsed.primary = parse_primary(content)?;
                    has_primary = true;
                }
                b"iinf" => parsed.kinds = parse_kinds(content)?,
                b"iprp" => parsed.parse_properties(content)?,
                b"iref" => parsed.parse_references(content)?,
                b"iloc" => parsed.locations = parse_locations(content)?,
                b"idat" => parsed.data = content.0,
                _ => {}
            }
        }
        has_primary.then_some(parsed)
    }

    fn parse_properties(&mut self, content: Bytes<'a>) -> Option<()> {
        for IsoBox { kind, mut content } in content.boxes()? {
            match &kind {
                b"ipco" => self.properties = content.boxes()?,
                b"ipma" => {
                    let (version, flags) = content.version_and_flags()?;
                    for _ in 0..content.u32()? {
                        let item = content.uint(if version < 1 { 2 } else { 4 })?;
                        let places = self.properties_of.entry(item as u32).or_default();
                        for _ in 0..content.u8()? {
                            // The first bit says whether a reader must know the property.
                            places.push(if flags & 1 == 0 {
                                u16::from(content.u8()? & 0x7f)
                            } else {
                                content.u16()? & 0x7fff
                            });
                        }
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    fn parse_references(&mut self, mut content: Bytes) -> Option<()> {
        let (version, _) = content.version_and_flags()?;
        let id_bytes = if version == 0 { 2 } else { 4 };
        for IsoBox { kind, mut content } in content.boxes()? {
            let from = content.uint(id_bytes)? as u32;
            let mut to = Vec::new();
            for _ in 0..content.u16()? {
                to.push(content.uint(id_bytes)? as u32);
            }
            match &kind {
                b"dimg" => self.sources.entry(from).or_default().extend(to),
                b"auxl" => self.auxiliaries.push((from, to)),
                _ => {}
            }
        }
        Some(())
    }

    pub fn kind(&self, item: u32) -> Option<&[u8; 4]> {
        self.kinds.get(&item)
    }

    /// The properties of an item in the order in which they apply.
    pub fn properties(&self, item: u32) -> impl Iterator<Item = IsoBox<'a>> + '_ {
        let places = self.properties_of.get(&item).into_iter().flatten();
        places.filter_map(|place| {
            let place = usize::from(*place).checked_sub(1)?;
            self.properties.get(place).copied()
        })
    }

    pub fn property(&self, item: u32, kind: [u8; 4]) -> Option<Bytes<'a>> {
        let mut properties = self.properties(item);
        Some(properties.find(|property| property.kind == kind)?.content)
    }

    /// The size of an item before it is cropped and turned.
    pub fn size(&self, item: u32) -> Option<(u32, u32)> {
        let mut content = self.property(item, *b"ispe")?;
        content.version_and_flags()?;
        Some((content.u32()?, content.u32()?))
    }

    pub fn sources(&self, item: u32) -> &[u32] {
        self.sources.get(&item).map_or(&[], Vec::as_slice)
    }

    /// The item that holds the alpha channel of an item.
    pub fn alpha(&self, item: u32) -> Option<u32> {
        let is_alpha = |item| {
            let kind = self.property(item, *b"auxC").and_then(|mut content| {
                content.version_and_flags()?;
                Some(content.0)
            });
            kind.is_some_and(|kind| {
                kind.starts_with(b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha")
                    || kind.starts_with(b"urn:mpeg:hevc:2015:auxid:1")
            })
        };
        let mut auxiliaries = self.auxiliaries.iter();
        let alpha = auxiliaries.find(|(from, to)| to.contains(&item) && is_alpha(*from));
        alpha.map(|(from, _)| *from)
    }

    /// All items that are decoded to make an item: the item, its sources and its alpha channel. Each item once.
    ///
    /// Nothing if items are made from items at too many levels.
    pub fn decoded(&self, item: u32) -> Option<Vec<u32>> {
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        let mut level: Vec<u32> = [Some(item), self.alpha(item)]
            .into_iter()
            .flatten()
            .collect();
        for _ in 0..=DERIVATION_DEPTH_MAX {
            level.retain(|item| seen.insert(*item));
            all.extend(&level);
            level = level
                .iter()
                .flat_map(|item| self.sources(*item).iter().copied())
                .collect();
            if level.is_empty() {
                return Some(all);
            }
        }
        None
    }

    /// The bytes of an item. Nothing if these are not in the file.
    pub fn data(&self, item: u32, file: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let location = self.locations.get(&item)?;
        let store = if location.is_in_meta { self.data } else { file };
        let extent = |(offset, length): &(u64, u64)| {
            let rest = store.get(usize::try_from(*offset).ok()?..)?;
            if *length == 0 {
                return Some(rest);
            }
            rest.get(..usize::try_from(*length).ok()?)
        };
        if let [only] = location.extents.as_slice() {
            return extent(only).map(Cow::Borrowed);
        }
        let extents: Vec<_> = location.extents.iter().map(extent).collect::<Option<_>>()?;
        // Extents that overlap could make much from little.
        let is_sound = extents.iter().map(|extent| extent.len()).sum::<usize>() <= file.len();
        is_sound.then(|| Cow::Owned(extents.concat()))
    }
}

fn parse_primary(mut content: Bytes) -> Option<u32> {
    let (version, _) = content.version_and_flags()?;
    Some(content.uint(if version == 0 { 2 } else { 4 })? as u32)
}

fn parse_kinds(mut content: Bytes) -> Option<HashMap<u32, [u8; 4]>> {
    let (version, _) = content.version_and_flags()?;
    content.uint(if version == 0 { 2 } else { 4 })?;
    let mut kinds = HashMap::new();
    for IsoBox { kind, mut content } in content.boxes()? {
        let (version, _) = content.version_and_flags()?;
        // Earlier versions have no type.
        if &kind == b"infe" && version >= 2 {
            let item = content.uint(if version == 2 { 2 } else { 4 })?;
            content.u16()?;
            kinds.insert(item as u32, content.array()?);
        }
    }
    Some(kinds)
}

fn parse_locations(mut content: Bytes) -> Option<HashMap<u32, Location>> {
    let (version, _) = content.version_and_flags()?;
    let [sizes, more_sizes] = content.array()?;
    let (offset_bytes, length_bytes) = (sizes >> 4, sizes & 15);
    let (base_bytes, index_bytes) = (more_sizes >> 4, more_sizes & 15);
    let wide = if version < 2 { 2 } else { 4 };
    let mut locations = HashMap::new();
    let mut extents_left = EXTENTS_MAX;
    for _ in 0..content.uint(wide)? {
        let item = content.uint(wide)? as u32;
        let method = if version == 0 { 0 } else { content.u16()? & 15 };
        content.u16()?; // the file that has the data: this one
        let base = content.uint(base_bytes)?;
        let mut extents = Vec::new();
        let extent_count = content.u16()?;
        extents_left = extents_left.checked_sub(extent_count.into())?;
        for _ in 0..extent_count {
            if version > 0 {
                content.uint(index_bytes)?;
            }
            let offset = content.uint(offset_bytes)?;
            extents.push((base.checked_add(offset)?, content.uint(length_bytes)?));
        }
        // Method 2 builds an item from other items.
        if method < 2 {
            let is_in_meta = method == 1;
            locations.insert(
                item,
                Location {
                    is_in_meta,
                    extents,
                },
            );
        }
    }
    Some(locations)
}
