//! Passwords and keys that the stack makes up for itself.

/// `bytes` random bytes in lower-case hex: safe in URLs, shells and files.
pub(crate) fn hex(bytes: usize) -> String {
    hex::encode((0..bytes).map(|_| rand::random::<u8>()).collect::<Vec<_>>())
}
