use serde_json::{Value, json};

use super::number;
use crate::torch::Output;

/// `{"shape": […], "data": […]}`: the unchanged output, in row-major order.
pub(super) fn raw(output: &Output) -> Value {
    let data: Vec<Value> = output.values.iter().map(|value| number(*value)).collect();
    json!({"shape": output.shape.as_ref(), "data": data})
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::given, raw};

    #[test]
    fn the_numbers_come_flat_with_their_shape() {
        let output = given::output(&[2, 3], &[0.0, 0.1, 0.2, 1.0, 1.1, 1.2]);
        let expected = json!({"shape": [2, 3], "data": [0.0, 0.1, 0.2, 1.0, 1.1, 1.2]});
        assert_eq!(raw(&output), expected);
    }
}
