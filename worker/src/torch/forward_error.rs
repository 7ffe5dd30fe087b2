//! Why a forward pass or the loading of a module failed.

use jobs::manifest::InputForm;
use tch::TchError;

/// Why a forward pass, or the loading of a module, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    #[error("{0}")]
    Failed(String),
    /// The device fails for every image.
    #[error("device lost: {0}")]
    DeviceLost(String),
}

impl From<TchError> for ForwardError {
    fn from(error: TchError) -> Self {
        let text = without_frames(&error.to_string());
        // The words of the allocators of CUDA and the CPU, of cuBLAS and cuDNN, and of C++.
        let phrases = [
            "out of memory",
            "can't allocate memory",
            "_ALLOC_FAILED",
            "bad_alloc",
        ];
        if phrases.iter().any(|phrase| text.contains(phrase)) {
            Self::OutOfMemory(text)
        } else {
            Self::Failed(text)
        }
    }
}

impl ForwardError {
    /// The error of a call with the images in this form. If the method takes the other form, the text says so.
    pub(super) fn of_call(error: TchError, form: InputForm) -> Self {
        let error = Self::from(error);
        let Self::Failed(text) = &error else {
            return error;
        };
        // The words in which libtorch refuses an argument of another type.
        let found = |wanted: &str, given: &str| {
            text.contains(&format!("Expected a value of type '{wanted}"))
                && text.contains(&format!("but instead found type '{given}'"))
        };
        let advice = match form {
            InputForm::Batch if found("List[Tensor]", "Tensor") => {
                "the method takes a list of images: set `input.form` to `list`"
            }
            InputForm::List if found("Tensor", "List[Tensor]") => {
                "the method takes one tensor with all images: set `input.form` to `batch`"
            }
            InputForm::Batch | InputForm::List => return error,
        };
        Self::Failed(advice.into())
    }
}

/// The text without the stack of C++, which helps only the developers of libtorch.
fn without_frames(text: &str) -> String {
    let is_frame = |line: &str| {
        let line = line.trim_start();
        line.starts_with("frame #") || line.starts_with("Exception raised from ")
    };
    let lines: Vec<_> = text.lines().filter(|line| !is_frame(line)).collect();
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use jobs::manifest::InputForm;
    use tch::TchError;

    use super::ForwardError;

    fn mismatch(wanted: &str, given: &str) -> TchError {
        TchError::Torch(format!(
            "forward() Expected a value of type '{wanted}' for argument 'images' but instead found type '{given}'.\n\
             Position: 1\nException raised from checkArg at function_schema_inl.h:339 (most recent call first):\n\
             frame #0: c10::Error::Error(c10::SourceLocation) + 0x80 (0x7f in libc10.so)\nframe #1: main\n"
        ))
    }

    #[test]
    fn an_error_of_libtorch_has_no_stack_of_cpp() {
        let text = ForwardError::from(mismatch("int", "Tensor")).to_string();
        assert!(
            text.ends_with("found type 'Tensor'.\nPosition: 1"),
            "{text}"
        );
        let memory = TchError::Torch("CUDA out of memory\nframe #0: main".into());
        let memory = ForwardError::from(memory);
        assert!(matches!(memory, ForwardError::OutOfMemory(_)), "{memory}");
        assert!(!memory.to_string().contains("frame"), "{memory}");
    }

    #[test]
    fn only_a_wrong_form_of_the_input_gets_advice() {
        let list = InputForm::List;
        let told = |form, wanted, given| {
            let error = ForwardError::of_call(mismatch(wanted, given), form);
            error.to_string().contains("set `input.form`")
        };
        assert!(told(InputForm::Batch, "List[Tensor]", "Tensor"));
        assert!(told(list, "Tensor", "List[Tensor]"));
        assert!(!told(InputForm::Batch, "int", "Tensor"));
        assert!(!told(list, "List[List[Tensor]]", "List[Tensor]"));
    }
}
