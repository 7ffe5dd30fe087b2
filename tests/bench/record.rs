//! `--record`: appends the readings of a bench to `docs/performance/BENCH.csv` and updates the table of the latest readings
//! in `docs/performance.md`.

use std::{fmt::Write as _, path::Path, process::Command};

use serde_json::{Map, Value, json};

/// A row of a CSV: its columns are keys of this object.
type Reading = Map<String, Value>;

/// Records one run on the CPU: rows of the CSV, and the cells Latest, Met and Date of the table.
///
/// # Panics
/// If the run used a GPU (readings of GPUs are in `docs/performance/gpu_*.csv`, by hand), or a file is missing.
pub(crate) fn record(bench: &str, figures: &Value) {
    let device = figures["device"].as_str().unwrap_or("cpu");
    assert_eq!(device, "cpu", "--record takes readings of the CPU only");
    let checkout = local::checkout().unwrap();
    let docs = checkout.join("docs");
    let readings = readings(bench, figures);
    let today = chrono::Utc::now().date_naive().to_string();
    let origin = json!({
        "date": today, "commit": commit(&checkout), "machine": format!("{} cores", crate::bare::cores()),
    });
    append(
        &docs.join("performance").join(bench).with_extension("csv"),
        origin.as_object().unwrap(),
        &readings,
    );
    let page = docs.join("performance.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let text = with_latest(&text, bench, &latest(bench, &readings), &today);
    std::fs::write(&page, text).unwrap();
}

/// The checkout's commit, with a `+` if tracked files have changed since. Empty outside of a git checkout.
fn commit(checkout: &Path) -> String {
    let git = |args: &[&str]| {
        let run = Command::new("git")
            .current_dir(checkout)
            .args(args)
            .output();
        let run = run.ok().filter(|run| run.status.success())?;
        Some(String::from_utf8_lossy(&run.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return String::new();
    };
    // The readings of this run are no change to the measured code.
    let code = ["--untracked-files=no", "--", ".", ":!docs/performance*"];
    let changes = git(&[&["status", "--porcelain"], &code[..]].concat()).unwrap_or_default();
    let mark = if changes.is_empty() { "" } else { "+" };
    format!("{commit}{mark}")
}

/// Splits the figures of a run into the rows of its CSV.
fn readings(bench: &str, figures: &Value) -> Vec<Reading> {
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    match bench {
        "decode" => {
            let sizes = figures["sizes"].as_array().unwrap().iter();
            let reading = |size: &Value| {
                let mut reading = object(size);
                let name = format!("{}×{}", size["width_px"], size["height_px"]);
                reading.insert("size".into(), name.into());
                reading
            };
            sizes.map(reading).collect()
        }
        "infer" => {
            let precisions = ["fp32", "bf16", "fp16"].into_iter();
            let reading = |precision: &str| {
                let mut reading = figures[precision].as_object()?.clone();
                reading.insert("device".into(), figures["device"].clone());
                reading.insert("precision".into(), precision.into());
                Some(reading)
            };
            precisions.filter_map(reading).collect()
        }
        "queue" => {
            let systems = figures["systems"].as_object().unwrap().iter();
            let named = |(name, row): (&String, &Value)| {
                let mut reading = object(row);
                reading.insert("system".into(), name.as_str().into());
                reading
            };
            let mut readings: Vec<_> = systems.map(named).collect();
            let mut ratios = Reading::new();
            ratios.insert("system".into(), "to_best_other".into());
            for (key, ratio) in object(&figures["to_best_other"]) {
                // A column has the name of its measure. The ratio of submits beside listeners has a column of its own.
                let column = match key.as_str() {
                    "submit_listeners_ratio" => key,
                    key => key.trim_end_matches("_ratio").to_owned(),
                };
                ratios.insert(column, ratio);
            }
            readings.push(ratios);
            readings
        }
        "depth" => {
            let depths = [
                "finished_1000000",
                "finished_10000000",
                "queued",
                "held_snapshot",
            ];
            let reading = |depth: &str| {
                let of_depth = object(figures).into_iter().filter_map(|(key, value)| {
                    let column = key.strip_prefix(depth)?.strip_prefix('_')?;
                    Some((column.to_owned(), value))
                });
                let mut reading: Reading = of_depth.collect();
                reading.get("claim_ms")?;
                reading.insert("depth".into(), depth.into());
                Some(reading)
            };
            depths.into_iter().filter_map(reading).collect()
        }
        "reads" => {
            let rows = object(figures).into_iter();
            let reading = |(read, figure): (String, Value)| {
                let mut reading = figure.as_object()?.clone();
                reading.insert("read".into(), read.replace(',', ";").into());
                reading.insert("finished_rows".into(), figures["finished_rows"].clone());
                Some(reading)
            };
            let mut readings: Vec<_> = rows.filter_map(reading).collect();
            let slowest = json!({ "read": "slowest", "finished_rows": figures["finished_rows"], "p99_ms": figures["slowest_p99_ms"] });
            readings.push(object(&slowest));
            readings
        }
        "waiters" => {
            let mut reading = object(figures);
            let p99 = format!("submit_p99_ms_{}", figures["waiters"]);
            reading.insert("submit_p99_ms".into(), figures[p99].clone());
            vec![reading]
        }
        _ => vec![object(figures)],
    }
}

/// Writes a row for each reading, with the columns that the first line of the file names.
fn append(csv: &Path, origin: &Reading, readings: &[Reading]) {
    let mut text =
        std::fs::read_to_string(csv).unwrap_or_else(|error| panic!("{}: {error}", csv.display()));
    let header = text.lines().next().unwrap_or_default().to_owned();
    for reading in readings {
        let cell = |column| match origin.get(column).or_else(|| reading.get(column)) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(word)) => word.clone(),
            Some(number) => number.to_string(),
        };
        let cells: Vec<_> = header.split(',').map(cell).collect();
        assert!(
            cells.iter().all(|cell| !cell.contains([',', '"', '\n'])),
            "a cell that needs quotes: {cells:?}"
        );
        writeln!(text, "{}", cells.join(",")).unwrap();
    }
    std::fs::write(csv, text).unwrap();
}

/// The measures of this bench in the table of `docs/performance.md`, with their values.
fn latest(bench: &str, readings: &[Reading]) -> Vec<(&'static str, f64)> {
    let number = |reading: &Reading, column: &str| reading.get(column)?.as_f64();
    let only = |column: &str| number(readings.first()?, column);
    let row = |key: &str, value: &str, column: &str| {
        let reading = readings.iter().find(|reading| reading[key] == value)?;
        number(reading, column)
    };
    let quotient = |above: &str, below: &str| Some(only(above)? / only(below)?);
    let to_best_other = |column: &str| row("system", "to_best_other", column);
    let measures = match bench {
        "e2e" => vec![("images/s, to the bare loop", only("ratio"))],
        "overhead" => vec![("CPU beside the bare loop, ms a job", only("cpu_ms_per_job"))],
        "latency" => {
            let more =
                |p: &str| Some(only(&format!("e2e_{p}_ms"))? - only(&format!("bare_{p}_ms"))?);
            vec![
                ("p50 above a bare call, ms", more("p50")),
                ("p99 above a bare call, ms", more("p99")),
            ]
        }
        "cold" => vec![("first result after the start, ms", only("cold_ms"))],
        "decode" => {
            let ratio = |reading: &Reading| {
                let best = number(reading, "pillow_ms")?.min(number(reading, "image_ms")?);
                Some(number(reading, "darkroom_ms")? / best)
            };
            let worst = readings.iter().filter_map(ratio).reduce(f64::max);
            vec![("CPU of the worst size, to the best other", worst)]
        }
        "soak" => vec![
            (
                "worker's memory, to that after 1,000 images",
                quotient("worker_mib", "worker_warm_mib"),
            ),
            (
                "API's memory, to that after 1,000 images",
                quotient("api_mib", "api_warm_mib"),
            ),
        ],
        "queue" => vec![
            ("bulk submits", to_best_other("bulk_jobs_per_s")),
            (
                "submits by 16 callers",
                to_best_other("submit_16_jobs_per_s"),
            ),
            (
                "submits by 64 callers",
                to_best_other("submit_64_jobs_per_s"),
            ),
            ("drain, best settings", to_best_other("drain_jobs_per_s")),
            ("drain by hundreds", to_best_other("drain_100_jobs_per_s")),
            ("pick-up p50", to_best_other("pickup_p50_ms")),
            (
                "submits beside 100 listeners, to those without",
                to_best_other("submit_listeners_ratio"),
            ),
        ],
        "depth" => vec![
            (
                "claim over 10 million finished jobs",
                row("depth", "finished_10000000", "claim_ratio"),
            ),
            (
                "completion over 10 million finished jobs",
                row("depth", "finished_10000000", "complete_ratio"),
            ),
            (
                "claim over a million queued jobs",
                row("depth", "queued", "claim_ratio"),
            ),
            (
                "completion over a million queued jobs",
                row("depth", "queued", "complete_ratio"),
            ),
            (
                "claim under a held snapshot",
                row("depth", "held_snapshot", "claim_ratio"),
            ),
        ],
        "waiters" => vec![
            ("submit p99, to that beside 100 waiters", only("ratio")),
            ("KiB a waiter", only("kib_per_waiter")),
        ],
        "reads" => vec![(
            "slowest p99 over 2 million finished jobs, ms",
            row("read", "slowest", "p99_ms"),
        )],
        _ => Vec::new(), // infer: no goal
    };
    measures
        .into_iter()
        .filter_map(|(measure, value)| Some((measure, value?)))
        .collect()
}

/// The page with new cells Latest, Met and Date in the rows of these measures. The goal stands in the row.
fn with_latest(page: &str, bench: &str, measures: &[(&str, f64)], today: &str) -> String {
    let mut page = page.to_owned();
    for (measure, value) in measures {
        let start = format!("| `{bench}` | {measure} |");
        let row = page.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("docs/performance.md has no row {start}"));
        let goal = row[start.len()..].split('|').next().unwrap().trim();
        let met = if is_met(goal, *value) {
            "yes"
        } else {
            "**no**"
        };
        let new = format!("{start} {goal} | {} | {met} | {today} |", figure(*value));
        page = page.replace(&format!("{row}\n"), &format!("{new}\n"));
    }
    page
}

/// Whether a value meets a goal as the table writes it: `≥ 0.9`, `≤ 20`, `< 1`.
fn is_met(goal: &str, value: f64) -> bool {
    let (sign, bound) = goal.split_once(' ').expect("a goal is a sign and a number");
    let bound: f64 = bound.replace(',', "").parse().expect("a goal has a number");
    match sign {
        "≥" => value >= bound,
        "≤" => value <= bound,
        "<" => value < bound,
        _ => panic!("no sign of a goal: {sign}"),
    }
}

/// The value with three digits, or with all digits before the point.
fn figure(value: f64) -> String {
    let digits_before = value.abs().log10().floor().max(-1.0) as i32 + 1;
    format!("{value:.*}", (3 - digits_before).max(0) as usize)
}
