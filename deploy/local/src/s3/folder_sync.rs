//! Flushes the file names of a folder to disk: `sync_all` of a file flushes only its bytes. Concurrent callers share one flush.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard};

/// One folder, and how often it was flushed.
#[derive(Debug)]
pub(crate) struct FolderSync {
    folder: PathBuf,
    flushes: Mutex<Flushes>,
    flush_ended: Condvar,
}

#[derive(Debug, Default)]
struct Flushes {
    started: u64,
    /// Number of the last flush that succeeded. All names that existed at its start are on disk.
    succeeded: u64,
    is_running: bool,
}

impl FolderSync {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            flushes: Mutex::default(),
            flush_ended: Condvar::new(),
        }
    }

    /// Returns after a flush that started after this call has succeeded.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut flushes = self.flushes();
        let wanted = flushes.started + 1;
        while flushes.succeeded < wanted {
            if flushes.is_running {
                flushes = self.flush_ended.wait(flushes).expect("no holder panics");
                continue;
            }
            flushes.started += 1;
            flushes.is_running = true;
            let this = flushes.started;
            drop(flushes);
            let outcome = File::open(&self.folder).and_then(|folder| folder.sync_all());
            flushes = self.flushes();
            flushes.is_running = false;
            if outcome.is_ok() {
                flushes.succeeded = this;
            }
            self.flush_ended.notify_all();
            outcome?;
        }
        Ok(())
    }

    fn flushes(&self) -> MutexGuard<'_, Flushes> {
        self.flushes.lock().expect("no holder panics")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn many_at_once_share_flushes_and_all_return() {
        let folder = tempfile::tempdir().unwrap();
        let sync = FolderSync::new(folder.path().to_owned());
        std::thread::scope(|scope| {
            let calls = (0..64).map(|_| scope.spawn(|| sync.flush()));
            for call in calls.collect::<Vec<_>>() {
                call.join().unwrap().unwrap();
            }
        });
        let flushes = sync.flushes();
        assert!((1..=64).contains(&flushes.started));
        assert_eq!(flushes.succeeded, flushes.started);
    }

    #[test]
    fn a_failed_flush_fails_for_every_caller() {
        let folder = tempfile::tempdir().unwrap();
        let sync = FolderSync::new(folder.path().join("missing"));
        std::thread::scope(|scope| {
            let calls = (0..8).map(|_| scope.spawn(|| sync.flush()));
            for call in calls.collect::<Vec<_>>() {
                assert!(call.join().unwrap().is_err());
            }
        });
    }
}
