//! The source code inside a TorchScript file: which methods it has, and which operators it calls.

use std::collections::BTreeSet;

/// Most names that are kept of each sort.
const NAMES_MAX: usize = 1000;
/// Longest name that is kept.
const NAME_BYTES_MAX: usize = 100;

/// Namespaces of operators that libtorch has.
const NAMESPACES: [&str; 21] = [
    "_c10d_functional",
    "_caffe2",
    "_quantized",
    "_test",
    "aten",
    "c10d",
    "debugprims",
    "inductor",
    "mkl",
    "mkldnn",
    "mkldnn_prepacked",
    "onednn",
    "onnx",
    "prepacked",
    "prim",
    "prims",
    "profiler",
    "quantized",
    "rngprims",
    "sparse",
    "static_runtime",
];
/// Operators of torchvision that workers register themselves.
const OPERATORS: [&str; 3] = [
    "torchvision::nms",
    "torchvision::roi_align",
    "torchvision::deform_conv2d",
];

/// What the code of a TorchScript file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TorchScriptCode {
    /// Operators that workers do not have, like `torchvision::roi_pool`.
    pub missing_operators: BTreeSet<String>,
    /// Methods of all classes. `None`: the code is too long to be read.
    pub methods: Option<BTreeSet<String>>,
}

impl TorchScriptCode {
    /// Adds what one line of the code says.
    pub(super) fn add_line(&mut self, line: &str) {
        if let Some(method) = line.trim_start().strip_prefix("def ")
            && let Some(methods) = &mut self.methods
        {
            keep(methods, identifier(method).to_owned());
        }
        let mut rest = line;
        while let Some(at) = rest.find("ops.") {
            let is_a_word = !rest[..at].ends_with(is_in_names);
            rest = &rest[at + "ops.".len()..];
            if is_a_word {
                self.add_operator(rest);
            }
        }
    }

    /// Takes `NAMESPACE.NAME…`.
    fn add_operator(&mut self, text: &str) {
        let namespace = identifier(text);
        let Some(name) = text[namespace.len()..].strip_prefix('.').map(identifier) else {
            return;
        };
        let operator = format!("{namespace}::{name}");
        if !NAMESPACES.contains(&namespace) && !OPERATORS.contains(&operator.as_str()) {
            keep(&mut self.missing_operators, operator);
        }
    }
}

fn keep(names: &mut BTreeSet<String>, name: String) {
    if names.len() < NAMES_MAX && name.len() <= NAME_BYTES_MAX {
        names.insert(name);
    }
}

fn is_in_names(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

/// The identifier at the start of the text.
fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::TorchScriptCode;

    #[test]
    fn operators_that_workers_do_not_have_are_found() {
        let mut code = TorchScriptCode {
            methods: Some(std::collections::BTreeSet::new()),
            ..TorchScriptCode::default()
        };
        let source = "class Net(Module):\n  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n\
             \x20   a = ops.torchvision.nms(x, x, 0.5)\n    b = torch.add(ops.torchvision.roi_pool(a, x), x)\n\
             \x20   c = ops.quantized.add(a, b)\n    d = __torch__.ops.mine(c)\n    return ops.own_kernels.fast(d)\n";
        source.lines().for_each(|line| code.add_line(line));
        let missing: Vec<_> = code.missing_operators.into_iter().collect();
        assert_eq!(missing, ["own_kernels::fast", "torchvision::roi_pool"]);
        let methods: Vec<_> = code.methods.expect("short code").into_iter().collect();
        assert_eq!(methods, ["forward"]);
    }
}
