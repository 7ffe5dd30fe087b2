//! Random passwords and keys of the stack.

/// Returns `bytes` random bytes in lower-case hex, which needs no quoting in URLs and shells.
pub(crate) fn hex(bytes: usize) -> String {
    hex::encode((0..bytes).map(|_| rand::random::<u8>()).collect::<Vec<_>>())
}
