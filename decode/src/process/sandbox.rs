//! The rights of a decoder. It keeps what decoding needs: memory, its socket, a clock and random numbers.
//!
//! The steps run in this order, before the first image.
//! 1. [`detach`]: the decoder ends with its parent, and closes all files but its socket.
//! 2. [`limit_resources`]: a limit on memory; no core dump, new file or new process.
//! 3. [`limit_system_calls`]: the kernel answers all other system calls with `EPERM`.

use std::{collections::BTreeMap, error::Error, fs, io};

use nix::{
    sys::{
        prctl::{set_dumpable, set_pdeathsig},
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigHandler, Signal, signal},
    },
    unistd::{close, dup2_stderr},
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Memory of a decoder beside that of one decode, in bytes: stack, fragments of the heap, memory kept for the next image.
const ROOM_BYTES: u64 = 64 << 20;

/// Memory of the stacks and heaps of threads, in bytes.
const THREADS_ROOM_BYTES: u64 = 64 << 20;

/// System calls that a decoder may make with any arguments.
///
/// `rt_sigaction`: the handlers of Rust and of `abort` remove themselves, so that a fault ends the process.
/// `restart_syscall`: after SIGSTOP and SIGCONT.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sysinfo,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// System calls of a process that has threads.
const ALLOWED_TO_THREADS: &[libc::c_long] = &[
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_getcpu,
    libc::SYS_sched_setaffinity,
];

/// Whether decoders may start threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    Allowed,
    Forbidden,
}

/// Ends this process with the parent, closes all files but the socket, and hides the memory from other processes.
pub(super) fn detach() -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    set_dumpable(false)?;
    // Ctrl-C and systemd signal the whole group of the worker. The worker still finishes its jobs then.
    for ignored in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        #[allow(unsafe_code)]
        // SAFETY: no handler is installed, and no other thread runs.
        unsafe {
            signal(ignored, SigHandler::SigIgn)?;
        }
    }
    // Standard output is `/dev/null`. So no library writes to the log of the worker any more.
    dup2_stderr(io::stdout())?;
    let files = fs::read_dir("/proc/self/fd")?;
    let files = files.filter_map(|file| file.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for inherited in files.filter(|file| *file > 2).collect::<Vec<_>>() {
        // One of these was the list of files itself, which is closed already.
        let _ = close(inherited);
    }
    Ok(())
}

/// Limits the memory to what this process has now, and `decode_bytes_max` for a decode. Allows no new file and no new process.
pub(super) fn limit_resources(decode_bytes_max: u64, threads: Threads) -> io::Result<()> {
    let memory_bytes = mapped_bytes()? + decode_bytes_max + ROOM_BYTES;
    let (memory_bytes, processes) = match threads {
        Threads::Forbidden => (memory_bytes, 0),
        // The limit on processes counts threads of the whole user. The filter of system calls allows threads only.
        Threads::Allowed => (memory_bytes + THREADS_ROOM_BYTES, u64::MAX),
    };
    for (resource, limit) in [
        (Resource::RLIMIT_AS, memory_bytes),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_NOFILE, 3),
        (Resource::RLIMIT_NPROC, processes),
    ] {
        let (_, inherited) = getrlimit(resource)?;
        let limit = limit.min(inherited);
        setrlimit(resource, limit, limit)?;
    }
    Ok(())
}

/// Bytes of address space that this process has.
fn mapped_bytes() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = size.and_then(|size| size.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let kib = kib.ok_or_else(|| io::Error::other("/proc/self/status has no VmSize"))?;
    Ok(kib * 1024)
}

/// Allows only what decoding needs, for the rest of the life of this process.
///
/// The kernel answers other calls with `EPERM`. It does not kill the process: the C library asks for files and for the machine
/// on rare paths and goes on without an answer, and so do libraries that would like a second thread.
pub(super) fn limit_system_calls(threads: Threads) -> Result<(), Box<dyn Error>> {
    let mut rules: Rules = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // Memory may hold data, but no code.
    let without_code = || argument(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0);
    rules.insert(libc::SYS_mmap, vec![without_code()?]);
    rules.insert(libc::SYS_mprotect, vec![without_code()?]);
    // `abort` signals this process, and no other.
    let this_process = argument(0, SeccompCmpOp::Eq, std::process::id().into())?;
    rules.insert(libc::SYS_tgkill, vec![this_process]);
    if threads == Threads::Allowed {
        rules.extend(ALLOWED_TO_THREADS.iter().map(|call| (*call, Vec::new())));
        let thread = libc::CLONE_THREAD as u64;
        let only_a_thread = argument(0, SeccompCmpOp::MaskedEq(thread), thread)?;
        rules.insert(libc::SYS_clone, vec![only_a_thread]);
        // No filter can read the arguments of `clone3`. Without it the C library uses `clone`.
        rules.insert(libc::SYS_clone3, Vec::new());
        let unknown = Rules::from([(libc::SYS_clone3, Vec::new())]);
        let errno = SeccompAction::Errno(libc::ENOSYS as u32);
        apply(unknown, SeccompAction::Allow, errno)?;
    }
    let errno = SeccompAction::Errno(libc::EPERM as u32);
    apply(rules, errno, SeccompAction::Allow)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Adds a filter. Of several filters the strictest one decides. Also sets `no_new_privs`.
fn apply(
    rules: Rules,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<(), Box<dyn Error>> {
    let this_machine = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, otherwise, listed, this_machine)?;
    let filter: BpfProgram = filter.try_into()?;
    apply_filter(&filter)?;
    Ok(())
}

/// A rule over the lower half of one argument: all are `int` or flags.
fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Box<dyn Error>> {
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, process::Command, thread};

    use super::{Threads, limit_system_calls};

    /// The filter holds for the thread that sets it, and for the threads that this thread starts.
    #[test]
    fn a_decoder_that_may_start_threads_can_start_neither_programs_nor_connections() {
        let sandboxed = thread::spawn(|| {
            limit_system_calls(Threads::Allowed).expect("a filter");
            let thread = thread::spawn(|| UdpSocket::bind("127.0.0.1:0").is_err());
            let program = Command::new("/bin/true").status();
            (thread.join().expect("a thread ends"), program.is_err())
        });
        assert_eq!(sandboxed.join().expect("no panic"), (true, true));
    }
}
