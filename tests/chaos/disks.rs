//! Disks that can be full: of the tables of Postgres, and of the objects. Only root may mount them.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::statvfs::statvfs,
};

/// Far more than a run writes, and taken only as far as it does.
const ROOMY_BYTES: u64 = 8 << 30;

/// A file system in memory. It goes away with the last process that sees it: see [`mounts_of_our_own`].
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

/// From now on only this process and its children see what it mounts; false where that is not allowed. To be called
/// before there is any thread.
pub fn mounts_of_our_own() -> bool {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && mount(None::<&str>, "/", None::<&str>, private, None::<&str>).is_ok()
}

impl Disk {
    /// Mounted at a new folder, which belongs to whom `like` belongs to; none where that is not allowed after all.
    pub fn mounted(at: PathBuf, like: &Path) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let owner = std::fs::metadata(like).unwrap();
        let disk = Self { at };
        let (uid, gid) = (owner.uid(), owner.gid());
        let options = format!("size={ROOMY_BYTES},mode=0700,uid={uid},gid={gid}");
        disk.mount(MsFlags::empty(), &options).ok()?;
        Some(disk)
    }

    /// Whatever would take one more block finds no space left on the device.
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
