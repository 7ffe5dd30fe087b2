//! The list of models as a table.

use serde_json::Value;

use super::{bare, table};

/// One line for each model: what it makes, which version its name means, and what a job may set.
pub(crate) fn table(list: &Value) -> String {
    let heads = ["MODEL", "TASK", "VERSION", "PARAMETERS"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(list["data"].as_array().into_iter().flatten().map(row));
    if rows.len() == 1 {
        return "no models yet; `darkroom models push DIR` registers one".to_owned();
    }
    table::aligned(&rows)
}

fn row(model: &Value) -> Vec<String> {
    let mark = if model["is_default"] == true {
        " (default)"
    } else {
        ""
    };
    let params = model["params"].as_object().into_iter().flatten();
    let params: Vec<_> = params.map(|(name, spec)| param(name, spec)).collect();
    vec![
        format!("{}{mark}", bare(&model["name"])),
        bare(&model["task"]),
        bare(&model["default_version"]),
        params.join(" "),
    ]
}

/// `top_k=5 [1..1000]`: the default, then the bounds.
fn param(name: &str, spec: &Value) -> String {
    let (minimum, maximum) = (bare(&spec["minimum"]), bare(&spec["maximum"]));
    let default = format!("{name}={}", bare(&spec["default"]));
    if minimum.is_empty() && maximum.is_empty() {
        default
    } else {
        format!("{default} [{minimum}..{maximum}]")
    }
}

#[cfg(test)]
mod tests {
    use super::table;
    use serde_json::json;

    #[test]
    fn a_model_is_a_line_with_its_parameters() {
        let top_k = json!({"type": "integer", "minimum": 1, "maximum": 9, "default": 5});
        let list = json!({"data": [
            {"name": "lite", "task": "classify", "is_default": true, "default_version": 3, "params": {"top_k": top_k}},
            {"name": "lite-embed", "task": "embed", "is_default": false, "default_version": 1,
             "params": {"normalize": {"type": "boolean", "default": true}}},
        ]});
        let want = "MODEL           TASK      VERSION  PARAMETERS\n\
                    lite (default)  classify  3        top_k=5 [1..9]\n\
                    lite-embed      embed     1        normalize=true";
        assert_eq!(table(&list), want);
    }
}
