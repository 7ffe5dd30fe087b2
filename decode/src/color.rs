//! Colors: photos are stored in many color spaces, and most models are trained on sRGB.
//!
//! Numbers and the choice of libraries: docs/adr/0022-formats-of-phones.md.

mod embedded;
mod shaper;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use image::RgbImage;
use moxcms::{
    CmsError, ColorProfile, DataColorSpace, Layout, RenderingIntent, Transform8BitExecutor,
    TransformOptions,
};
use serde::{Deserialize, Serialize};

use self::{embedded::Embedded, shaper::Shaper};
use crate::{Header, Warning};

/// The colors of the decoded pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// sRGB: other RGB color spaces are converted, if the file names its color space.
    #[default]
    Srgb,
    /// The numbers that are stored. What the file says of its colors does not count.
    Raw,
}

/// Most bytes of a color profile. The largest real ones have about 3 MB.
const PROFILE_BYTES_MAX: usize = 4 << 20;

/// Pixels that are converted at once by a profile with tables.
const PIXELS_AT_ONCE: usize = 4096;

/// Converts the pixels of a whole file to sRGB, as far as the file names another RGB color space.
///
/// Gray and CMYK images keep their colors. A profile that makes no sense is ignored, with a warning.
pub(crate) fn convert(
    pixels: &mut RgbImage,
    file: &[u8],
    header: &Header,
    warnings: &mut Vec<Warning>,
) {
    match Embedded::find(file, header) {
        Embedded::Nothing => {}
        Embedded::Broken => warnings.push(Warning::BadMetadata),
        Embedded::Icc(profile) => convert_by_profile(pixels, &profile, warnings),
        Embedded::CodePoints {
            primaries,
            transfer,
        } => {
            if let Some(shaper) = Shaper::of_code_points(primaries, transfer) {
                shaper.convert(pixels);
            }
        }
    }
}

/// Converts pixels that are stored in the color space of an ICC profile.
pub(crate) fn convert_by_profile(
    pixels: &mut RgbImage,
    profile: &[u8],
    warnings: &mut Vec<Warning>,
) {
    // The parser may panic on nonsense. That is no reason to refuse the image.
    let conversion = catch_unwind(AssertUnwindSafe(|| Conversion::of_profile(profile)));
    let is_converted = match conversion {
        Ok(Ok(conversion)) => conversion.convert(pixels).is_ok(),
        Ok(Err(_)) | Err(_) => false,
    };
    if !is_converted {
        warnings.push(Warning::BadMetadata);
    }
}

/// How the pixels of one profile become sRGB.
enum Conversion {
    /// They are sRGB, or they are gray or CMYK.
    Nothing,
    /// By a curve for each channel and a matrix, as in all profiles of cameras and phones.
    Shaper(Box<Shaper>),
    /// By tables of colors, as in profiles of scanners.
    Tables(Arc<Transform8BitExecutor>),
}

impl Conversion {
    fn of_profile(profile: &[u8]) -> Result<Self, CmsError> {
        if profile.len() > PROFILE_BYTES_MAX {
            return Err(CmsError::InvalidProfile);
        }
        let profile = ColorProfile::new_from_slice(profile)?;
        if profile.color_space != DataColorSpace::Rgb {
            return Ok(Self::Nothing);
        }
        // As Little CMS: tables come first, those of the perceptual intent before others.
        let intent = if profile.lut_a_to_b_perceptual.is_some() {
            RenderingIntent::Perceptual
        } else if profile.lut_a_to_b_colorimetric.is_some() {
            RenderingIntent::RelativeColorimetric
        } else {
            let shaper = Shaper::of_profile(&profile)?;
            return Ok(if shaper.keeps_colors() {
                Self::Nothing
            } else {
                Self::Shaper(Box::new(shaper))
            });
        };
        let options = TransformOptions {
            rendering_intent: intent,
            ..TransformOptions::default()
        };
        let srgb = ColorProfile::new_srgb();
        profile
            .create_transform_8bit(Layout::Rgb, &srgb, Layout::Rgb, options)
            .map(Self::Tables)
    }

    fn convert(&self, pixels: &mut RgbImage) -> Result<(), CmsError> {
        match self {
            Self::Nothing => {}
            Self::Shaper(shaper) => shaper.convert(pixels),
            Self::Tables(transform) => {
                let mut converted = [0; PIXELS_AT_ONCE * 3];
                for stored in pixels.chunks_mut(converted.len()) {
                    let converted = &mut converted[..stored.len()];
                    transform.transform(stored, converted)?;
                    stored.copy_from_slice(converted);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::RgbImage;

    use super::{Shaper, convert_by_profile};

    const STORED: [[u8; 3]; 8] = [
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [200, 100, 50],
        [50, 100, 200],
        [128, 128, 128],
        [10, 20, 30],
        [90, 160, 80],
    ];

    /// What Little CMS 2.19 makes of the stored colors, by `tests/fixtures/make_formats.py`.
    const CONVERTED: [(&str, [[u8; 3]; 8]); 5] = [
        ("srgb", STORED),
        (
            "p3",
            [
                [255, 0, 0],
                [0, 255, 0],
                [0, 0, 255],
                [215, 93, 31],
                [26, 101, 207],
                [128, 128, 128],
                [7, 20, 31],
                [61, 162, 68],
            ],
        ),
        (
            "adobe-rgb",
            [
                [255, 0, 0],
                [0, 255, 0],
                [0, 0, 255],
                [227, 100, 42],
                [0, 100, 204],
                [129, 129, 129],
                [0, 12, 24],
                [0, 161, 73],
            ],
        ),
        (
            "prophoto",
            [
                [255, 0, 0],
                [0, 255, 0],
                [0, 0, 255],
                [255, 80, 46],
                [0, 128, 221],
                [146, 146, 146],
                [0, 28, 42],
                [0, 187, 78],
            ],
        ),
        (
            "tables",
            [
                [255, 0, 0],
                [0, 255, 0],
                [0, 0, 255],
                [215, 93, 31],
                [26, 101, 207],
                [128, 128, 128],
                [8, 21, 31],
                [61, 162, 68],
            ],
        ),
    ];

    fn pixels(colors: &[[u8; 3]]) -> RgbImage {
        let bytes = colors.as_flattened().to_vec();
        RgbImage::from_raw(colors.len() as u32, 1, bytes).expect("three bytes a pixel")
    }

    #[test]
    fn profiles_convert_as_little_cms_does() {
        for (name, expected) in CONVERTED {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/formats");
            let profile = fs::read(format!("{folder}/{name}.icc")).expect("a profile");
            let mut converted = pixels(&STORED);
            let mut warnings = Vec::new();
            convert_by_profile(&mut converted, &profile, &mut warnings);
            assert_eq!(warnings, [], "{name}");
            for (to, expected) in converted.pixels().zip(expected) {
                let mut channels = to.0.iter().zip(expected);
                // Tables are interpolated in several ways.
                let difference_max = if name == "tables" { 3 } else { 1 };
                assert!(
                    channels.all(|(to, expected)| to.abs_diff(expected) <= difference_max),
                    "{name}: {:?}, not {expected:?}",
                    to.0
                );
            }
        }
    }

    #[test]
    fn code_points_convert_as_the_profile_of_the_color_space_does() {
        let shaper = Shaper::of_code_points(12, 13).expect("Display P3");
        let mut converted = pixels(&STORED);
        shaper.convert(&mut converted);
        for (to, expected) in converted.pixels().zip(CONVERTED[1].1) {
            let mut channels = to.0.iter().zip(expected);
            assert!(
                channels.all(|(to, expected)| to.abs_diff(expected) <= 1),
                "{:?}, not {expected:?}",
                to.0
            );
        }
    }

    #[test]
    fn srgb_and_unknown_code_points_convert_nothing() {
        for (primaries, transfer) in [(1, 13), (2, 2), (1, 1), (1, 6), (1, 18), (99, 13), (0, 0)] {
            assert!(
                Shaper::of_code_points(primaries, transfer).is_none(),
                "{primaries}/{transfer}"
            );
        }
    }

    #[test]
    fn hdr_white_is_white() {
        let shaper = Shaper::of_code_points(9, 16).expect("PQ");
        // 203 cd/m² are 58 % of a PQ signal.
        let mut converted = pixels(&[[148; 3], [0; 3], [255; 3], [92; 3]]);
        shaper.convert(&mut converted);
        let colors: Vec<_> = converted.pixels().map(|pixel| pixel.0).collect();
        assert_eq!(colors[..3], [[255; 3], [0; 3], [255; 3]]);
        assert!((60..120).contains(&colors[3][0]), "{:?}", colors[3]);
    }

    #[test]
    fn nonsense_is_no_profile() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/formats");
        let profile = fs::read(format!("{folder}/p3.icc")).expect("a profile");
        for length in [0, 1, 100, 131, 200, profile.len() - 40] {
            let mut converted = pixels(&STORED);
            let mut warnings = Vec::new();
            convert_by_profile(&mut converted, &profile[..length], &mut warnings);
            assert_eq!(converted, pixels(&STORED), "{length}");
            assert_eq!(warnings, [crate::Warning::BadMetadata], "{length}");
        }
    }
}
