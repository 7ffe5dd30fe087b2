//! Clocks that run wrong: each process has its own. By libfaketime, which is loaded into it and reads the time from a file.

use std::path::{Path, PathBuf};

/// How wrong a clock may be. More than a quarter of an hour, and S3 refuses what is signed by it.
pub const WRONG_BY_SECONDS: i64 = 600;

/// The time of day of one process. What it measures, it measures right.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// That many seconds before or behind; none where the library is not installed.
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

    /// What a process needs to live by it.
    pub fn env(&self) -> [(&'static str, &Path); 5] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.file),
            ("FAKETIME_CACHE_DURATION", Path::new("1")), // seconds until it is read again
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
            ("NO_FAKE_STAT", Path::new("1")),
        ]
    }
}

/// Where Debian, Fedora and Alpine put it.
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
