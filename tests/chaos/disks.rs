//! Disks that can be full, for the tables of Postgres and for the objects. Mounting needs root.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::statvfs::statvfs,
};

/// Size of a disk that is not full: far more than a run writes. tmpfs only uses what is written.
const ROOMY_BYTES: u64 = 8 << 30;

/// A file system in memory. It ends with the last process in its mount namespace: see [`enter_own_mount_namespace`].
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

/// Moves this process to a mount namespace of its own, so that only it and its children see its mounts. False if that is not
/// allowed. Call this before any thread starts.
pub fn enter_own_mount_namespace() -> bool {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && mount(None::<&str>, "/", None::<&str>, private, None::<&str>).is_ok()
}

impl Disk {
    /// Mounts a disk at a new folder, with the owner of `like`. None if mounting is not allowed.
    pub fn mount_at(at: PathBuf, like: &Path) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let owner = std::fs::metadata(like).unwrap();
        let disk = Self { at };
        let (uid, gid) = (owner.uid(), owner.gid());
        let options = format!("size={ROOMY_BYTES},mode=0700,uid={uid},gid={gid}");
        disk.mount(MsFlags::empty(), &options).ok()?;
        Some(disk)
    }

    /// Makes the disk full: the next block fails with "no space left on device".
    pub fn fill(&self) -> nix::Result<()> {
        let now = statvfs(&self.at)?;
        let used = (now.blocks() - now.blocks_free()) * now.fragment_size();
        self.mount(MsFlags::MS_REMOUNT, &format!("size={used}"))
    }

    pub fn free(&self) {
        self.mount(MsFlags::MS_REMOUNT, &format!("size={ROOMY_BYTES}"))
            .unwrap();
    }

    pub fn at(&self) -> &Path {
        &self.at
    }

    fn mount(&self, flags: MsFlags, options: &str) -> nix::Result<()> {
        let tmpfs = Some("tmpfs");
        mount(tmpfs, &self.at, tmpfs, flags, Some(options))
    }
}
