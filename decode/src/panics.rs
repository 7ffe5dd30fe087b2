//! Panics of decoders. Some decoders panic on some files; that is a fault of the image.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::Refusal;

/// Runs a decoder. A panic becomes a refusal of the image.
///
/// The caller must not use again what the decoder was writing to when it panicked.
///
/// # Errors
/// The refusal of the decoder, or [`Reason::Undecodable`](crate::Reason::Undecodable) after a panic.
pub fn catch_panics<T>(decode: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let cause = format!("a decoder panicked: {}", panic_message(&*panic));
        Err(Refusal::undecodable("the image is damaged or of an unusual kind").caused_by(cause))
    })
}

/// The message that `panic!` was given, or `no message`.
fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::catch_panics;
    use crate::Reason;

    #[test]
    fn a_panic_is_a_refusal_with_the_message_as_its_cause() {
        let refusal = catch_panics::<()>(|| panic!("of a test")).expect_err("a refusal");
        assert_eq!(refusal.reason, Reason::Undecodable);
        let cause = refusal.cause.expect("a cause").to_string();
        assert_eq!(cause, "a decoder panicked: of a test");
    }
}
