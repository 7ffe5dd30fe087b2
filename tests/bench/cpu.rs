//! CPU time of everything that serves: all processes that descend from the one that started this bench, but itself.

use std::collections::HashMap;

/// Ticks of `/proc/PID/stat` a second, on every Linux there is.
pub(crate) const TICKS: f64 = 100.0;

/// Seconds of CPU so far, children that have ended included.
pub(crate) fn of_the_service() -> f64 {
    let me = std::process::id();
    let processes: HashMap<u32, (u32, f64)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let fields: Vec<f64> = stat
                .rsplit_once(") ")?
                .1
                .split(' ')
                .skip(1)
                .filter_map(|field| field.parse().ok())
                .collect();
            // After the state: parent first; utime, stime, cutime, cstime are fields 14 to 17 of the whole line.
            Some((
                pid,
                (*fields.first()? as u32, fields.get(10..14)?.iter().sum()),
            ))
        })
        .collect();
    let root = processes[&me].0;
    let descends = |mut pid: u32| {
        while let Some((parent, _)) = processes.get(&pid) {
            if *parent == root || *parent == me {
                return true;
            }
            pid = *parent;
        }
        false
    };
    let of_others = processes
        .iter()
        .filter(|(pid, _)| **pid != me && descends(**pid));
    of_others.map(|(_, (_, ticks))| ticks).sum::<f64>() / TICKS
}
