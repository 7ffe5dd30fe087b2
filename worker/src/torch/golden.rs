//! Golden outputs: what the model gave in Python for images that this file can make again.

use serde::Deserialize;

use super::{forward_error::ForwardError, program::Program};

/// Largest difference to a golden output, as a part of the largest golden value. Measured: 1e-6.
const DIFFERENCE_MAX: f32 = 1e-3;
/// [`DIFFERENCE_MAX`] on a GPU, which may compute in TF32.
const GPU_DIFFERENCE_MAX: f32 = 0.05;

/// Outputs of the model before the activation, a row for each golden image.
#[derive(Debug, Deserialize)]
pub(super) struct Golden {
    /// Of one row.
    shape: Vec<usize>,
    /// The places of the values in a flat row.
    at: Vec<usize>,
    values: Vec<Vec<f32>>,
}

impl Golden {
    /// Runs the golden images, each alone and all together.
    ///
    /// # Errors
    /// A pass failed, or an output is not the golden one.
    pub(super) fn check(&self, program: &Program) -> Result<(), ForwardError> {
        let images: Vec<_> = (0..self.values.len())
            .map(|number| golden_image(number, program.image_bytes()))
            .collect();
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        if images.is_empty() {
            return Err(ForwardError::Failed("there are no golden outputs".into()));
        }
        for (number, image) in images.iter().enumerate() {
            self.check_rows(program, &[image], &self.values[number..=number])?;
        }
        let together = images.len().min(program.largest_batch());
        self.check_rows(program, &images[..together], &self.values[..together])
    }

    fn check_rows(
        &self,
        program: &Program,
        images: &[&[u8]],
        expected: &[Vec<f32>],
    ) -> Result<(), ForwardError> {
        let outputs = program.raw_outputs(images)?;
        let difference_max = if program.is_on_gpu() {
            GPU_DIFFERENCE_MAX
        } else {
            DIFFERENCE_MAX
        };
        for (output, expected) in outputs.iter().zip(expected) {
            if *output.shape != *self.shape {
                let (shape, golden) = (&output.shape, &self.shape);
                return Err(ForwardError::Failed(format!(
                    "an output has the shape {shape:?} instead of {golden:?}"
                )));
            }
            let difference = self.difference(&output.values, expected);
            // A comparison with NaN is false.
            let is_alike = difference <= difference_max;
            if !is_alike {
                let images = images.len();
                return Err(ForwardError::Failed(format!(
                    "the outputs of {images} images differ from the golden ones by {difference} of the largest value; if the manifest \
                     or the weights have changed, run `darkroom models compile` again"
                )));
            }
        }
        Ok(())
    }

    /// The largest difference of a row, as a part of the largest expected value. NaN if a value is NaN.
    fn difference(&self, row: &[f32], expected: &[f32]) -> f32 {
        let largest = expected
            .iter()
            .fold(f32::MIN_POSITIVE, |most, one| most.max(one.abs()));
        let found = self.at.iter().map(|&at| row.get(at).copied());
        let differences = found
            .zip(expected)
            .map(|(found, expected)| (found.unwrap_or(f32::NAN) - expected).abs() / largest);
        // `f32::max` would forget NaN.
        differences.fold(0.0, |most: f32, one| {
            if most.is_nan() || most >= one {
                most
            } else {
                one
            }
        })
    }
}

/// Golden image `number`, `u8[height, width, 3]`; `cli/src/models/compile.py` makes the same one.
fn golden_image(number: usize, bytes: usize) -> Vec<u8> {
    let pixels = (0..bytes).map(|at| ((at * (31 + 2 * number) + 17 * number) % 251) as u8);
    pixels.collect()
}

#[cfg(test)]
mod tests {
    use super::{DIFFERENCE_MAX, Golden};

    #[test]
    fn a_row_with_another_value_or_nan_is_not_golden() {
        let golden = Golden {
            shape: vec![3],
            at: vec![0, 2],
            values: Vec::new(),
        };
        let expected = [2.0, -4.0];
        let is_golden = |row: &[f32]| golden.difference(row, &expected) <= DIFFERENCE_MAX;
        assert!(is_golden(&[2.0, 100.0, -4.001]));
        assert!(!is_golden(&[2.0, 100.0, -4.01]));
        assert!(!is_golden(&[f32::NAN, 100.0, -4.0]));
        assert!(!is_golden(&[2.0, 100.0, f32::NAN]));
        assert!(!is_golden(&[2.0]), "a row that is too short");
    }
}
