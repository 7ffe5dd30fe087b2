//! CPU time and page faults by program: of all descendants of the process that started this bench. The bench itself counts as
//! `clients`.

use std::collections::{BTreeMap, HashMap};

/// Ticks of `/proc/PID/stat` per second, on every Linux.
pub(crate) const TICKS: f64 = 100.0;

/// Programs, and their names in the figures.
const PROGRAMS: [(&str, &str); 5] = [
    ("darkroom-api", "api"),
    ("darkroom-worker", "worker"),
    ("darkroom-decode", "worker"), // darkroom-decoder: the kernel keeps 15 characters
    ("postgres", "postgres"),
    ("darkroom-local", "s3"),
];
/// Name of this process in the figures.
pub(crate) const CLIENTS: &str = "clients";

/// Totals of one program, with its ended children.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub cpu_seconds: f64,
    /// Minor page faults: the kernel mapped or cleared a page without I/O.
    pub page_faults: f64,
}

/// Usage by program.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(BTreeMap<String, Usage>);

impl Ledger {
    pub(crate) fn now() -> Self {
        let this_process = std::process::id();
        let processes: HashMap<u32, Process> = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
                Some((pid, Process::of(&stat)?))
            })
            .collect();
        let starter = processes[&this_process].parent;
        let is_descendant = |mut pid: u32| {
            while let Some(process) = processes.get(&pid) {
                if process.parent == starter || process.parent == this_process {
                    return true;
                }
                pid = process.parent;
            }
            false
        };
        let mut ledger = Self::default();
        for (pid, process) in processes.iter().filter(|(pid, _)| is_descendant(**pid)) {
            let name = if *pid == this_process {
                CLIENTS.to_owned()
            } else {
                process.name.clone()
            };
            let usage = ledger.0.entry(name).or_default();
            usage.cpu_seconds += process.usage.cpu_seconds;
            usage.page_faults += process.usage.page_faults;
        }
        ledger
    }

    /// Usage since `before`, by program, divided by `jobs`.
    pub(crate) fn since(&self, before: &Self, jobs: f64) -> Self {
        let each = self.0.iter().map(|(name, now)| {
            let before = before.0.get(name).copied().unwrap_or_default();
            let each = Usage {
                cpu_seconds: (now.cpu_seconds - before.cpu_seconds) / jobs,
                page_faults: (now.page_faults - before.page_faults) / jobs,
            };
            (name.clone(), each)
        });
        Self(each.collect())
    }

    pub(crate) fn of(&self, program: &str) -> Usage {
        self.0.get(program).copied().unwrap_or_default()
    }

    /// CPU seconds of all programs but the clients.
    pub(crate) fn service_cpu_seconds(&self) -> f64 {
        let service = self.0.iter().filter(|(name, _)| *name != CLIENTS);
        service.map(|(_, usage)| usage.cpu_seconds).sum()
    }
}

struct Process {
    name: String,
    parent: u32,
    usage: Usage,
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
        // `fields` begins with the parent, field 4 of the line. minflt and cminflt are fields 10 and 11 of the line; utime,
        // stime, cutime and cstime are fields 14 to 17.
        Some(Self {
            name: known.map_or(name, |(_, short)| short).to_owned(),
            parent: *fields.first()? as u32,
            usage: Usage {
                cpu_seconds: fields.get(10..14)?.iter().sum::<f64>() / TICKS,
                page_faults: fields.get(6..8)?.iter().sum(),
            },
        })
    }
}

/// CPU seconds of this process, exact to the microsecond.
pub(crate) fn of_this_process() -> f64 {
    let schedstat = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let ns = schedstat.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    });
    ns.sum::<f64>() / 1e9
}
