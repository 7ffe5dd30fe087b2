//! What the result of a job says about its model.

use jobs::manifest::Precision;
use serde_json::Value;

/// What is unusual about the model of a result. Results of usual models say nothing about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remarks {
    /// A precision that is not the default of the model: it changes the numbers.
    pub precision: Option<Precision>,
    /// The code of a [`ModelWarning`](super::ModelWarning).
    pub warning: Option<&'static str>,
}

impl Remarks {
    /// Adds the fields `precision` and `model_warning`.
    pub fn add_to(self, result: &mut Value) {
        if let Some(precision) = self.precision {
            result["precision"] = precision.to_string().into();
        }
        if let Some(warning) = self.warning {
            result["model_warning"] = warning.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use jobs::manifest::Precision;
    use serde_json::json;

    use super::Remarks;

    #[test]
    fn a_result_names_only_what_is_unusual() {
        let mut result = json!({"value": 1.0});
        Remarks::default().add_to(&mut result);
        assert_eq!(result, json!({"value": 1.0}));
        let remarks = Remarks {
            precision: Some(Precision::Bf16),
            warning: Some("depends_on_neighbors"),
        };
        remarks.add_to(&mut result);
        let expected =
            json!({"value": 1.0, "precision": "bf16", "model_warning": "depends_on_neighbors"});
        assert_eq!(result, expected);
    }
}
