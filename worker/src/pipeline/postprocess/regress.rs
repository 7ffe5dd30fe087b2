use jobs::manifest::OutputSpec;
use serde_json::{Value, json};

use super::number;

/// `{"value": x, "unit": …}`, the unit from the manifest.
pub(super) fn regress(output: &[f32], spec: &OutputSpec) -> Value {
    json!({"value": number(output[0]), "unit": spec.unit})
}

pub(super) fn check(shape: &[usize]) -> Result<(), String> {
    if shape.iter().product::<usize>() == 1 {
        return Ok(());
    }
    Err(format!(
        "`regress` takes one number for each image, not {shape:?}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::given, check, regress};

    #[test]
    fn a_value_comes_with_the_unit_of_its_manifest() {
        let spec = given::manifest("regress", &json!({"unit": "°C"})).output;
        assert_eq!(
            regress(&[36.6], &spec),
            json!({"value": 36.6, "unit": "°C"})
        );
        let bare = given::manifest("regress", &json!({})).output;
        assert_eq!(regress(&[0.1], &bare), json!({"value": 0.1, "unit": null}));
    }

    #[test]
    fn one_number_may_come_in_any_number_of_dimensions() {
        assert!(check(&[]).is_ok() && check(&[1]).is_ok() && check(&[1, 1]).is_ok());
        assert!(check(&[2]).is_err() && check(&[0]).is_err());
    }
}
