//! The list of models as a table.

use serde_json::Value;

use super::{bare, table};

/// One line for each version.
pub(crate) fn table(list: &Value) -> String {
    let heads = ["MODEL", "TASK", "ALIASES", "DIGEST", ""];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for model in list["data"].as_array().into_iter().flatten() {
        match model["versions"].as_array() {
            Some(versions) => rows.extend(versions.iter().map(|version| row(model, version))),
            None => rows.push(row(model, model)),
        }
    }
    if rows.len() == 1 {
        return "no models yet; `darkroom models push DIR` registers one".to_owned();
    }
    table::aligned(&rows)
}

fn row(model: &Value, version: &Value) -> Vec<String> {
    let either = |name: &str| match &version[name] {
        Value::Null => bare(&model[name]),
        value => bare(value),
    };
    let aliases = version["aliases"].as_array().into_iter().flatten();
    let aliases: Vec<_> = aliases.map(bare).collect();
    let is_default = model["is_default"] == true || model["default"] == true;
    vec![
        format!("{}:{}", bare(&model["name"]), bare(&version["version"])),
        either("task"),
        aliases.join(", "),
        either("digest"),
        if is_default { "default model" } else { "" }.to_owned(),
    ]
}
