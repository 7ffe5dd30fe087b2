//! One thread starts all children, so that the kernel ends them with this process and not earlier.
//!
//! The kernel sends the signal of `PR_SET_PDEATHSIG` when the *thread* that forked ends. If a thread
//! of a test or of tokio forked, its children would end with that thread.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getppid};

struct SpawnRequest {
    command: Command,
    death_signal: Signal,
    done: mpsc::Sender<io::Result<Child>>,
}

/// Starts `command` in a process group of its own. The child gets `death_signal` when this process has ended.
pub(super) fn spawn(command: Command, death_signal: Signal) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<SpawnRequest>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, queue) = mpsc::channel::<SpawnRequest>();
        std::thread::spawn(move || {
            for SpawnRequest {
                command,
                death_signal,
                done,
            } in queue
            {
                let _ = done.send(spawn_from_this_thread(command, death_signal));
            }
        });
        requests
    });
    let (done, child) = mpsc::channel();
    spawner
        .send(SpawnRequest {
            command,
            death_signal,
            done,
        })
        .map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}

#[allow(
    unsafe_code,
    reason = "pre_exec is the only way to ask the kernel for a death signal"
)]
fn spawn_from_this_thread(mut command: Command, death_signal: Signal) -> io::Result<Child> {
    let parent = Pid::this();
    command.process_group(0);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl and getppid are
    // system calls that change no memory of this process.
    unsafe {
        // The standard library changes the user before it calls this. A change of the user clears the death signal.
        command.pre_exec(move || {
            prctl::set_pdeathsig(death_signal)?;
            if getppid() != parent {
                return Err(io::ErrorKind::BrokenPipe.into()); // the parent has ended already
            }
            Ok(())
        });
    }
    command.spawn()
}

/// Waits until the child has ended. Its status is not collected, so no other process can get its pid.
pub(super) fn wait_without_reaping(pid: Pid) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(pid), flags) == Err(nix::errno::Errno::EINTR) {}
}
