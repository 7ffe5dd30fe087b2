//! Conversion to sRGB by a curve for each channel and a matrix.

use std::sync::OnceLock;

use image::RgbImage;
use moxcms::{
    CicpColorPrimaries, CicpProfile, CmsError, ColorProfile, MatrixCoefficients, ToneReprCurve,
    TransferCharacteristics,
};

/// Steps of a linear channel. A step is less than half a step of 8-bit sRGB, also in the shadows.
const LINEAR_STEPS: usize = 8192;

/// A power of two that is larger than `LINEAR_STEPS`: an index can be cut to it without a comparison.
const TABLE_LEN: usize = 2 * LINEAR_STEPS;

/// Added to a number below 2²², this leaves the nearest integer in the lowest bits of the sum. Much faster than a conversion.
const TO_LOW_BITS: f32 = 8_388_608.0;

/// The largest difference of a channel that counts as none: profiles of sRGB are rounded in many ways.
const DIFFERENCE_MAX: u8 = 1;

/// The brightness of white in the HDR transfer function PQ, in cd/m² (ITU-R BT.2408).
const PQ_WHITE: f64 = 203.0;

/// Curves to linear light and a matrix to the primaries of sRGB.
pub(super) struct Shaper {
    linear: [[f32; 256]; 3],
    matrix: [[f32; 3]; 3],
}

impl Shaper {
    /// # Errors
    /// The profile has no curves or no primaries.
    pub fn of_profile(profile: &ColorProfile) -> Result<Self, CmsError> {
        let (true, Some(red), Some(green), Some(blue)) = (
            profile.is_matrix_shaper(),
            &profile.red_trc,
            &profile.green_trc,
            &profile.blue_trc,
        ) else {
            return Err(CmsError::InvalidProfile);
        };
        let matrix = profile.transform_matrix(&ColorProfile::new_srgb()).v;
        let matrix = matrix.map(|row| row.map(|cell| cell as f32));
        if !matrix.iter().flatten().all(|cell| cell.is_finite()) {
            return Err(CmsError::InvalidProfile);
        }
        let linear = |curve: &ToneReprCurve| -> Result<[f32; 256], CmsError> {
            let curve = curve.make_linear_evaluator()?;
            let value = |step: usize| curve.evaluate_value(step as f32 / 255.0);
            Ok(std::array::from_fn(value))
        };
        Ok(Self {
            linear: [linear(red)?, linear(green)?, linear(blue)?],
            matrix,
        })
    }

    /// For the code points of ITU-T H.273. None if the colors are sRGB, or unknown.
    ///
    /// HDR: of PQ, light above the brightness of white is cut off. HLG is shown as screens without HDR show it.
    pub fn of_code_points(primaries: u16, transfer: u16) -> Option<Self> {
        const SRGB_OR_UNSPECIFIED: std::ops::RangeInclusive<u16> = 1..=2;
        const BT2020: CicpColorPrimaries = CicpColorPrimaries::Bt2020;
        // The transfer functions of video and HLG count as that of sRGB, as in browsers.
        let is_pq = transfer == TransferCharacteristics::Smpte2084 as u16;
        let transfer = match u8::try_from(transfer).map(TransferCharacteristics::try_from) {
            Ok(Ok(
                transfer @ (TransferCharacteristics::Bt470M
                | TransferCharacteristics::Bt470Bg
                | TransferCharacteristics::Linear),
            )) => transfer,
            _ => TransferCharacteristics::Srgb,
        };
        if SRGB_OR_UNSPECIFIED.contains(&primaries)
            && transfer == TransferCharacteristics::Srgb
            && !is_pq
        {
            return None;
        }
        let primaries = match CicpColorPrimaries::try_from(u8::try_from(primaries).ok()?).ok()? {
            CicpColorPrimaries::Reserved => return None,
            CicpColorPrimaries::Unspecified if is_pq => BT2020,
            CicpColorPrimaries::Unspecified => CicpColorPrimaries::Bt709,
            primaries => primaries,
        };
        let profile = ColorProfile::new_from_cicp(CicpProfile {
            color_primaries: primaries,
            transfer_characteristics: transfer,
            matrix_coefficients: MatrixCoefficients::Bt709,
            full_range: true,
        });
        let mut shaper = Self::of_profile(&profile).ok()?;
        if is_pq {
            shaper.linear =
                [std::array::from_fn(|step| (pq_light(step as f64 / 255.0) / PQ_WHITE) as f32); 3];
        }
        (!shaper.keeps_colors()).then_some(shaper)
    }

    /// Whether all colors stay as they are: the color space is sRGB.
    pub fn keeps_colors(&self) -> bool {
        let srgb = srgb_of_linear();
        let steps = || (0..=255_u8).step_by(51);
        let keeps = |color: [u8; 3]| {
            let mut differences = self.color(srgb, color).into_iter().zip(color);
            differences.all(|(to, from)| to.abs_diff(from) <= DIFFERENCE_MAX)
        };
        (0..=255).all(|gray| keeps([gray; 3]))
            && steps().all(|red| steps().all(|green| steps().all(|blue| keeps([red, green, blue]))))
    }

    pub fn convert(&self, pixels: &mut RgbImage) {
        let srgb = srgb_of_linear();
        for pixel in pixels.as_chunks_mut::<3>().0 {
            *pixel = self.color(srgb, *pixel);
        }
    }

    #[inline]
    fn color(&self, srgb: &[u8; TABLE_LEN], [red, green, blue]: [u8; 3]) -> [u8; 3] {
        let [red, green, blue] = [
            self.linear[0][usize::from(red)],
            self.linear[1][usize::from(green)],
            self.linear[2][usize::from(blue)],
        ];
        self.matrix.map(|row| {
            let light = row[0] * red + row[1] * green + row[2] * blue;
            #[expect(
                clippy::manual_clamp,
                reason = "of a number and NaN, `max` and `min` return the number"
            )]
            let light = light.max(0.0).min(1.0);
            let step = light * LINEAR_STEPS as f32;
            srgb[(step + TO_LOW_BITS).to_bits() as usize % TABLE_LEN]
        })
    }
}

/// The 8-bit sRGB values of linear light, from 0 to `LINEAR_STEPS`.
fn srgb_of_linear() -> &'static [u8; TABLE_LEN] {
    static TABLE: OnceLock<Box<[u8; TABLE_LEN]>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let value = |step: usize| {
            let light = step.min(LINEAR_STEPS) as f64 / LINEAR_STEPS as f64;
            let value = if light <= 0.003_130_8 {
                light * 12.92
            } else {
                1.055 * light.powf(1.0 / 2.4) - 0.055
            };
            (value * 255.0 + 0.5) as u8
        };
        Box::new(std::array::from_fn(value))
    })
}

/// The light of a PQ signal of 0 to 1, in cd/m² (SMPTE ST 2084).
fn pq_light(signal: f64) -> f64 {
    const M1: f64 = 2610.0 / 16384.0;
    const M2: f64 = 2523.0 / 4096.0 * 128.0;
    const C1: f64 = 3424.0 / 4096.0;
    const C2: f64 = 2413.0 / 4096.0 * 32.0;
    const C3: f64 = 2392.0 / 4096.0 * 32.0;
    let power = signal.powf(1.0 / M2);
    10_000.0 * ((power - C1).max(0.0) / (C2 - C3 * power)).powf(1.0 / M1)
}
