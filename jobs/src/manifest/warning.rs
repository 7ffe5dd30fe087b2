//! What is allowed in a manifest, but is rarely meant.

use super::{InputForm, InputSpec, Manifest, Task};

/// A field of a manifest that is probably a mistake. The version can be registered.
#[derive(Debug, Clone, PartialEq, Eq, derive_more::Display)]
#[display("{field}: {detail}")]
pub struct Warning {
    /// Path of the field, like `input.std`.
    pub field: String,
    pub detail: String,
}

impl Manifest {
    /// What the one who pushes the model should look at. Mistakes are not among it: see [`Manifest::mistakes`].
    pub fn warnings(&self) -> Vec<Warning> {
        let scale = scale_of_pixels(&self.input).map(|detail| Warning {
            field: "input.std".into(),
            detail: detail.into(),
        });
        scale.into_iter().collect()
    }

    /// What the person who pushes the model should look at in its labels.
    pub fn labels_warning(&self, labels: &[String]) -> Option<Warning> {
        // Only detectors of torchvision take a list of images.
        let has_background = self.task == Task::Detect && self.input.form == InputForm::List;
        let first = labels.first()?.to_lowercase();
        let is_missing = has_background && !first.contains("background") && first != "n/a";
        is_missing.then(|| Warning {
            field: "labels".into(),
            detail: "index 0 of torchvision's detectors is the background, so the first label should be `__background__`".into(),
        })
    }
}

/// Transforms in Python normalize pixels of 0 to 1, so their numbers are often copied as they are.
fn scale_of_pixels(input: &InputSpec) -> Option<&'static str> {
    let is_small = |numbers: [f32; 3]| numbers.iter().all(|number| *number < 2.0);
    if !is_small(input.mean) || !is_small(input.std) {
        return None;
    }
    let all_are =
        |numbers: [f32; 3], one: f32| numbers.iter().all(|n| n.to_bits() == one.to_bits());
    let is_untouched = all_are(input.mean, 0.0) && all_are(input.std, 1.0);
    Some(if is_untouched {
        "the model gets pixels of 0 to 255; if it was trained with pixels of 0 to 1, `std` is [255, 255, 255]"
    } else {
        "these look like numbers for pixels of 0 to 1; multiply `mean` and `std` by 255"
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::manifest::Manifest;

    fn warnings(mean: [f32; 3], std: [f32; 3]) -> Vec<String> {
        let manifest: Manifest = serde_json::from_value(json!({
            "name": "net", "task": "raw", "artifact": "model.pt",
            "input": {"width": 8, "height": 8, "resize": "stretch", "mean": mean, "std": std}
        }))
        .expect("a manifest");
        assert_eq!(manifest.mistakes(), []);
        let warnings = manifest.warnings().into_iter();
        warnings.map(|warning| warning.to_string()).collect()
    }

    #[test]
    fn the_labels_of_a_torchvision_detector_begin_with_the_background() {
        let warning = |task: &str, form: &str, first: &str| {
            let manifest: Manifest = serde_json::from_value(json!({
                "name": "net", "task": task, "artifact": "model.pt",
                "input": {"width": 8, "height": 8, "resize": "stretch", "mean": [0, 0, 0], "std": [255, 255, 255], "form": form},
            }))
            .expect("a manifest");
            manifest.labels_warning(&[first.to_owned(), "cat".to_owned()])
        };
        let shifted = warning("detect", "list", "person").expect("a warning");
        assert_eq!(shifted.field, "labels");
        assert!(shifted.detail.contains("`__background__`"), "{shifted}");
        for (task, form, first) in [
            ("detect", "list", "__background__"),
            ("detect", "list", "Background"),
            ("detect", "list", "N/A"),
            ("detect", "batch", "person"),
            ("raw", "list", "person"),
        ] {
            assert_eq!(warning(task, form, first), None, "{task} {form} {first}");
        }
    }

    #[test]
    fn numbers_for_pixels_of_0_to_1_get_a_warning() {
        let imagenet = warnings([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        assert_eq!(
            imagenet,
            [
                "input.std: these look like numbers for pixels of 0 to 1; multiply `mean` and `std` by 255"
            ]
        );
        assert_eq!(warnings([0.5; 3], [0.5; 3]).len(), 1);
        assert!(warnings([0.0; 3], [1.0; 3])[0].contains("`std` is [255, 255, 255]"));
    }

    #[test]
    fn numbers_for_pixels_of_0_to_255_get_none() {
        for (mean, std) in [
            ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
            ([0.0; 3], [255.0; 3]),
            ([127.5; 3], [1.0; 3]),
        ] {
            assert!(warnings(mean, std).is_empty(), "{mean:?} {std:?}");
        }
    }
}
