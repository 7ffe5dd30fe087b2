//! What the service has taken of this machine so far, by program: all processes that descend from the one that started this
//! bench, and the bench itself as `clients`.

use std::collections::{BTreeMap, HashMap};

/// Ticks of `/proc/PID/stat` a second, on every Linux there is.
pub(crate) const TICKS: f64 = 100.0;

/// The programs by the names that figures give them.
const PROGRAMS: [(&str, &str); 4] = [
    ("darkroom-api", "api"),
    ("darkroom-worker", "worker"),
    ("postgres", "postgres"),
    ("darkroom-local", "s3"),
];
/// This process.
pub(crate) const CLIENTS: &str = "clients";

/// Totals of one program, children that have ended included.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    pub cpu_seconds: f64,
    /// Pages that the kernel had to bring in or clear, without I/O.
    pub page_faults: f64,
}

/// By program.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(BTreeMap<String, Taken>);

impl Ledger {
    pub(crate) fn now() -> Self {
        let me = std::process::id();
        let processes: HashMap<u32, Process> = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
                Some((pid, Process::of(&stat)?))
            })
            .collect();
        let root = processes[&me].parent;
        let descends = |mut pid: u32| {
            while let Some(process) = processes.get(&pid) {
                if process.parent == root || process.parent == me {
                    return true;
                }
                pid = process.parent;
            }
            false
        };
        let mut ledger = Self::default();
        for (pid, process) in processes.iter().filter(|(pid, _)| descends(**pid)) {
            let name = if *pid == me {
                CLIENTS.to_owned()
            } else {
                process.name.clone()
            };
            let taken = ledger.0.entry(name).or_default();
            taken.cpu_seconds += process.taken.cpu_seconds;
            taken.page_faults += process.taken.page_faults;
        }
        ledger
    }

    /// What was taken since `before`, by program; each divided by `jobs`.
    pub(crate) fn since(&self, before: &Self, jobs: f64) -> Self {
        let each = self.0.iter().map(|(name, now)| {
            let before = before.0.get(name).copied().unwrap_or_default();
            let each = Taken {
                cpu_seconds: (now.cpu_seconds - before.cpu_seconds) / jobs,
                page_faults: (now.page_faults - before.page_faults) / jobs,
            };
            (name.clone(), each)
        });
        Self(each.collect())
    }

    pub(crate) fn of(&self, program: &str) -> Taken {
        self.0.get(program).copied().unwrap_or_default()
    }

    /// All but the clients.
    pub(crate) fn service_cpu_seconds(&self) -> f64 {
        let service = self.0.iter().filter(|(name, _)| *name != CLIENTS);
        service.map(|(_, taken)| taken.cpu_seconds).sum()
    }
}

struct Process {
    name: String,
    parent: u32,
    taken: Taken,
}

impl Process {
    fn of(stat: &str) -> Option<Self> {
        let (before, after) = stat.rsplit_once(") ")?;
        let name = before.split_once(" (")?.1;
        let known = PROGRAMS.iter().find(|(program, _)| *program == name);
        let fields: Vec<f64> = after
            .split(' ')
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        // After the state: parent first; minflt and cminflt are fields 10 and 11 of the whole line, utime, stime, cutime and
        // cstime 14 to 17.
        Some(Self {
            name: known.map_or(name, |(_, short)| short).to_owned(),
            parent: *fields.first()? as u32,
            taken: Taken {
                cpu_seconds: fields.get(10..14)?.iter().sum::<f64>() / TICKS,
                page_faults: fields.get(6..8)?.iter().sum(),
            },
        })
    }
}

/// Seconds of CPU of this process alone, to the microsecond.
pub(crate) fn of_this_process() -> f64 {
    let schedstat = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let ns = schedstat.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    });
    ns.sum::<f64>() / 1e9
}
