//! The answer of a model: the value that a call of its method returns. The output is a part of it, and the manifest says where.

use std::sync::Arc;

use jobs::manifest::{Activation, AnswerPath, Manifest};
use tch::{IValue, Kind, TchError, Tensor};

use super::{forward_error::ForwardError, output::Output};

mod describe;
mod part;
mod paths;

use self::{
    describe::describe,
    part::{Found, Part},
    paths::paths,
};

/// Where the output is in the answer of a model.
#[derive(Debug, Default)]
pub(super) struct AnswerSpec {
    path: Option<AnswerPath>,
    /// The tensors of a detection. They are joined to one, `[rows, columns]`.
    fields: Vec<AnswerPath>,
}

/// The outputs of a forward pass, still on the device.
#[derive(Debug)]
pub(super) struct DeviceOutputs {
    /// `f32`: one tensor with a row for each image, or a flat tensor for each image.
    values: Vec<Tensor>,
    /// The shape of the output of each image.
    shapes: Vec<Arc<[usize]>>,
}

impl AnswerSpec {
    pub(super) fn of(manifest: &Manifest) -> Self {
        let output = &manifest.output;
        let fields = output.boxes.as_ref().map(|boxes| boxes.fields.clone());
        Self {
            path: output.path.clone(),
            fields: fields.unwrap_or_default(),
        }
    }

    /// Takes the outputs out of the answer to a pass over `images` images.
    ///
    /// The output is one tensor, its first dimension the images, or a list with a tensor for each image.
    ///
    /// # Errors
    /// The answer has no such part, or no output for each image.
    pub(super) fn take(
        &self,
        answer: &IValue,
        images: usize,
    ) -> Result<DeviceOutputs, ForwardError> {
        self.try_take(answer, images).map_err(|error| match error {
            TakeError::Torch(error) => error.into(),
            TakeError::Unexpected(why) => self.failed(&why, answer, images),
        })
    }

    fn try_take(&self, answer: &IValue, images: usize) -> Result<DeviceOutputs, TakeError> {
        match part::find(answer, self.path.as_ref())? {
            Found::One(part) => self.batch(part, images),
            Found::Each(parts) => self.list(&parts, images),
        }
    }

    fn batch(&self, part: Part, images: usize) -> Result<DeviceOutputs, TakeError> {
        let output = self.tensor(part, 3)?;
        let size = output.size();
        let Some((_, shape)) = (size.split_first()).filter(|(first, _)| **first == images as i64)
        else {
            let why = format!("{images} images gave an output of shape {size:?}");
            return Err(TakeError::Unexpected(why));
        };
        let shape = to_shape(shape);
        let each = shape.iter().product::<usize>();
        let output = output.f_reshape([images as i64, each as i64])?;
        Ok(DeviceOutputs {
            values: vec![output],
            shapes: vec![shape; images],
        })
    }

    fn list(&self, parts: &[Part], images: usize) -> Result<DeviceOutputs, TakeError> {
        if parts.len() != images {
            let why = format!("{images} images gave a list of {}", parts.len());
            return Err(TakeError::Unexpected(why));
        }
        let (mut values, mut shapes) = (Vec::new(), Vec::new());
        for part in parts {
            let output = self.tensor(*part, 2)?;
            shapes.push(to_shape(&output.size()));
            values.push(output.f_reshape([-1_i64])?);
        }
        Ok(DeviceOutputs { values, shapes })
    }

    /// The tensor of a part, or the fields of the part side by side. Joined fields have `dims` dimensions.
    fn tensor(&self, part: Part, dims: usize) -> Result<Tensor, TakeError> {
        if self.fields.is_empty() {
            return Ok(part.tensor()?.f_to_kind(Kind::Float)?);
        }
        let columns = self.fields.iter().map(|field| {
            let tensor = part.at(field)?.tensor()?.f_to_kind(Kind::Float)?;
            match tensor.dim() {
                dim if dim == dims => Ok(tensor),
                dim if dim + 1 == dims => Ok(tensor.f_unsqueeze(-1)?),
                _ => {
                    let size = tensor.size();
                    let why = format!("the field `{field}` has the shape {size:?}");
                    Err(TakeError::Unexpected(why))
                }
            }
        });
        let columns = columns.collect::<Result<Vec<_>, TakeError>>()?;
        Ok(Tensor::f_cat(&columns, -1)?)
    }

    fn failed(&self, why: &str, answer: &IValue, images: usize) -> ForwardError {
        let is_container = matches!(answer, IValue::Tuple(_) | IValue::GenericDict(_));
        let why = match &self.path {
            Some(path) => format!("at output.path `{path}`: {why}; "),
            // The description of the answer says why.
            None if is_container && self.fields.is_empty() => String::new(),
            None => format!("without an output.path: {why}; "),
        };
        let answers = describe(answer);
        let advice = self.advice(answer, images);
        ForwardError::Failed(format!("{why}the model answers {answers}{advice}"))
    }

    /// The paths at which the output can be taken, as an instruction; empty if there is none.
    fn advice(&self, answer: &IValue, images: usize) -> String {
        let works = |path: &AnswerPath| {
            let moved = Self {
                path: Some(path.clone()),
                fields: self.fields.clone(),
            };
            moved.try_take(answer, images).is_ok()
        };
        let paths = paths(answer).into_iter().filter(works);
        let paths: Vec<_> = paths.map(|path| format!("`{path}`")).collect();
        if paths.is_empty() {
            return String::new();
        }
        format!(": set `output.path` to {}", paths.join(" or "))
    }
}

impl DeviceOutputs {
    /// Turns the numbers of each image into scores.
    pub(super) fn activated(mut self, activation: Activation) -> Result<Self, TchError> {
        let activated = |values: &Tensor| match activation {
            Activation::None => Ok(values.shallow_clone()),
            Activation::Softmax => values.f_softmax(-1, Kind::Float),
            Activation::Sigmoid => values.f_sigmoid(),
        };
        self.values = self
            .values
            .iter()
            .map(activated)
            .collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Copies the outputs of the first `images` images to the host. The other rows only fill up a forward batch.
    pub(super) fn to_host(&self, images: usize) -> Result<Vec<Output>, TchError> {
        let shapes = || self.shapes.iter().take(images);
        let count = shapes().map(|shape| shape.iter().product::<usize>()).sum();
        let mut values = vec![0.0; count];
        let flat = match self.values.as_slice() {
            [values] => values.f_reshape([-1_i64])?,
            values => Tensor::f_cat(values, 0)?,
        };
        flat.f_narrow(0, 0, count as i64)?
            .f_to_device(tch::Device::Cpu)?
            .f_contiguous()?
            .f_copy_data(&mut values, count)?;
        let mut rest = values.as_slice();
        let outputs = shapes().map(|shape| {
            let (values, others) = rest.split_at(shape.iter().product());
            rest = others;
            Output {
                shape: shape.clone(),
                values: values.to_vec(),
            }
        });
        Ok(outputs.collect())
    }
}

/// Why the output cannot be taken.
#[derive(Debug)]
enum TakeError {
    Torch(TchError),
    /// The answer is not as the manifest says.
    Unexpected(String),
}

impl From<TchError> for TakeError {
    fn from(error: TchError) -> Self {
        Self::Torch(error)
    }
}

impl From<String> for TakeError {
    fn from(why: String) -> Self {
        Self::Unexpected(why)
    }
}

fn to_shape(size: &[i64]) -> Arc<[usize]> {
    size.iter().map(|&side| side as usize).collect()
}

#[cfg(test)]
mod tests;
