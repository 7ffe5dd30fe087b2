//! Tries a model on two images when it is loaded: the answer for an image must not depend on the other images of its forward
//! batch, nor on chance (docs/adr/0023-probes-at-load.md).

use std::sync::Arc;

use crate::torch::{
    ForwardError, Output, Program, are_alike, are_nearly_all_alike, other_probe_images,
    probe_images,
};

/// Two answers differ clearly if they differ by this many times what rounding explains. Half of a clear difference is not
/// taken for rounding.
const CLEARLY: f32 = 4.0;

/// Images, and the answer of the model for each of them alone. All answers are those before the activation.
#[derive(Debug)]
pub(super) struct Probes {
    images: Vec<Vec<u8>>,
    alone: Vec<Output>,
    difference_max: f32,
}

impl Probes {
    /// Runs the model on two images, one at a time. If it fails on these, on a gray image.
    ///
    /// # Errors
    /// The model fails on the gray image too, or memory runs out.
    pub(super) fn run(program: &Program) -> Result<Self, ForwardError> {
        match Self::of(probe_images(program.image_bytes()).into(), program) {
            Ok(probes) => Ok(probes.with_different_answers(program)),
            Err(ForwardError::Failed(_)) => {
                Self::of(vec![vec![128; program.image_bytes()]], program)
            }
            other => other,
        }
    }

    /// Equal answers for both images would look right beside each other in any model. So the second image is replaced by one
    /// with another answer, if there is one.
    fn with_different_answers(mut self, program: &Program) -> Self {
        let allowed = self.difference_max * CLEARLY;
        let is_first = |one: &Output| are_alike(&one.values, &self.alone[0].values, allowed);
        if !is_first(&self.alone[1]) {
            return self;
        }
        let found = other_probe_images(program.image_bytes())
            .into_iter()
            .find_map(|image| {
                let answer = program.forward_raw(&[&image]).ok()?.pop()?;
                (!is_first(&answer)).then_some((image, answer))
            });
        if let Some((image, answer)) = found {
            (self.images[1], self.alone[1]) = (image, answer);
        }
        self
    }

    fn of(images: Vec<Vec<u8>>, program: &Program) -> Result<Self, ForwardError> {
        let mut alone = Vec::with_capacity(images.len());
        for image in &images {
            alone.extend(program.forward_raw(&[image])?);
        }
        Ok(Self {
            images,
            alone,
            difference_max: program.difference_max(),
        })
    }

    /// Whether the model takes two different images. With one image nothing can be compared.
    pub(super) fn are_different(&self) -> bool {
        self.images.len() > 1
    }

    /// The shape of the output for one image.
    pub(super) fn shape(&self) -> Arc<[usize]> {
        let first = self.alone.first();
        first.map_or_else(|| Arc::from([]), |output| output.shape.clone())
    }

    /// A forward batch of `size` images, by turns.
    pub(super) fn batch(&self, size: usize) -> Vec<&[u8]> {
        let images = self.images.iter().cycle().take(size);
        images.map(Vec::as_slice).collect()
    }

    /// Whether `outputs`, the answers of [`Program::forward_raw`] for a [`batch`](Self::batch), are those for each image alone.
    ///
    /// If they are not, passes over one image in all rows find out whether neighbors are the cause, or the rounding of this
    /// size.
    pub(super) fn agree(&self, program: &Program, outputs: &[Output]) -> bool {
        let alone = self.alone.iter().cycle();
        let mut pairs = outputs.iter().zip(alone);
        if pairs.all(|(one, alone)| self.are_alike(one, alone)) {
            return true;
        }
        let mut images = self.images.iter().enumerate();
        images.all(|(number, image)| {
            let Ok(equal) = program.forward_raw(&vec![image.as_slice(); outputs.len()]) else {
                return false;
            };
            let pairs = outputs.iter().zip(&equal).skip(number);
            let mut pairs = pairs.step_by(self.images.len());
            pairs.all(|(mixed, equal)| {
                self.are_alike(mixed, equal) && self.are_nearly_alike(equal, &self.alone[number])
            })
        })
    }

    fn are_alike(&self, one: &Output, other: &Output) -> bool {
        one.shape == other.shape && are_alike(&one.values, &other.values, self.difference_max)
    }

    /// Whether only the rounding of another size explains the difference.
    fn are_nearly_alike(&self, one: &Output, other: &Output) -> bool {
        one.shape == other.shape
            && are_nearly_all_alike(&one.values, &other.values, self.difference_max)
    }
}
