//! One thread that starts all children, so that they die with the process and not before.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that forked ends: a test's thread, or one of
//! tokio's, would take its children along while others still use them.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getppid};

struct Order {
    command: Command,
    death_signal: Signal,
    done: mpsc::Sender<io::Result<Child>>,
}

/// Starts `command` in a process group of its own; it gets `death_signal` when we are gone.
pub(super) fn spawn(command: Command, death_signal: Signal) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, queue) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for Order {
                command,
                death_signal,
                done,
            } in queue
            {
                let _ = done.send(spawn_here(command, death_signal));
            }
        });
        orders
    });
    let (done, child) = mpsc::channel();
    spawner
        .send(Order {
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
fn spawn_here(mut command: Command, death_signal: Signal) -> io::Result<Child> {
    let us = Pid::this();
    command.process_group(0);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl and getppid are
    // system calls that touch no memory of ours.
    unsafe {
        // Runs after std has changed the user, which would have cleared the request.
        command.pre_exec(move || {
            prctl::set_pdeathsig(death_signal)?;
            if getppid() != us {
                return Err(io::ErrorKind::BrokenPipe.into()); // we died before the request
            }
            Ok(())
        });
    }
    command.spawn()
}

/// Returns when the child has ended, leaving its status (and so its pid) to be collected.
pub(super) fn wait_without_reaping(pid: Pid) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(pid), flags) == Err(nix::errno::Errno::EINTR) {}
}
