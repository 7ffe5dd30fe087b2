//! The decoders of a worker: its child processes.

use local::Signal;
use nix::{sys::signal::kill, unistd::Pid};

/// Process ids of the decoders of a worker. A decoder that has just started counts too.
pub fn decoders_of(worker_pid: i32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of_running(*pid) == Some(worker_pid))
        .collect()
}

/// Whether the process runs: it has not ended, though its parent may not have noticed.
pub fn is_running(pid: i32) -> bool {
    parent_of_running(pid).is_some()
}

fn parent_of_running(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `PID (NAME) STATE PARENT …`; a name may contain parentheses.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let is_zombie = fields.next()? == "Z";
    let parent = fields.next()?.parse().ok()?;
    (!is_zombie).then_some(parent)
}

/// Kills all decoders of a worker. Returns their process ids.
pub fn kill_decoders_of(worker_pid: i32) -> Vec<i32> {
    let decoders = decoders_of(worker_pid);
    for pid in &decoders {
        // Fails if the decoder has just ended.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    decoders
}
