//! Makes names in a folder survive a power cut, one flush for all that wait: `sync_all` of a file does that for its bytes only.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard};

/// One folder and its flushes, counted.
#[derive(Debug)]
pub(crate) struct FolderSync {
    folder: PathBuf,
    flushes: Mutex<Flushes>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Flushes {
    begun: u64,
    /// The last that began and succeeded; all names that were there when it began are safe.
    done: u64,
    one_runs: bool,
}

impl FolderSync {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            flushes: Mutex::default(),
            news: Condvar::new(),
        }
    }

    /// Returns once a flush that began after this call has ended well.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut flushes = self.flushes();
        let enough = flushes.begun + 1;
        while flushes.done < enough {
            if flushes.one_runs {
                flushes = self.news.wait(flushes).expect("no panic while it is held");
                continue;
            }
            flushes.begun += 1;
            flushes.one_runs = true;
            let this = flushes.begun;
            drop(flushes);
            let outcome = File::open(&self.folder).and_then(|folder| folder.sync_all());
            flushes = self.flushes();
            flushes.one_runs = false;
            if outcome.is_ok() {
                flushes.done = this;
            }
            self.news.notify_all();
            outcome?;
        }
        Ok(())
    }

    fn flushes(&self) -> MutexGuard<'_, Flushes> {
        self.flushes.lock().expect("no panic while it is held")
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
        assert!((1..=64).contains(&flushes.begun));
        assert_eq!(flushes.done, flushes.begun);
    }

    #[test]
    fn a_flush_that_fails_is_nobodys_success() {
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
