//! Wrong clocks, one for each process. libfaketime, preloaded into the process, reads the offset from a file.

use std::path::{Path, PathBuf};

/// Largest offset of a clock. S3 refuses signatures that are more than 15 minutes off.
pub const WRONG_BY_SECONDS: i64 = 600;

/// The wall clock of one process. Its monotonic clock stays right.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock with this offset; none if libfaketime is not installed.
    pub fn wrong_by(file: PathBuf, seconds: i64) -> Option<Self> {
        let clock = Self {
            library: library()?,
            file,
        };
        clock.set(seconds);
        Some(clock)
    }

    pub fn set(&self, seconds: i64) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// Environment of a process that uses this clock.
    pub fn env(&self) -> [(&'static str, &Path); 5] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.file),
            ("FAKETIME_CACHE_DURATION", Path::new("1")), // seconds between two reads of the file
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
            ("NO_FAKE_STAT", Path::new("1")),
        ]
    }
}

/// The library, where Debian, Fedora and Alpine install it.
fn library() -> Option<PathBuf> {
    let arch = std::env::consts::ARCH;
    [
        format!("/usr/lib/{arch}-linux-gnu/faketime"),
        "/usr/lib64/faketime".into(),
        "/usr/lib/faketime".into(),
    ]
    .into_iter()
    .map(|folder| Path::new(&folder).join("libfaketimeMT.so.1"))
    .find(|library| library.is_file())
}
