//! What a child writes, into its log file: JSON lines, whatever the child says.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, PipeReader, Write as _};
use std::path::Path;

use anyhow::Context as _;
use tokio::sync::watch;

/// Tells when all that the child wrote is in the file.
#[derive(Debug)]
pub(super) struct Written(watch::Receiver<()>);

impl Written {
    pub(super) async fn complete(&self) {
        let mut written = self.0.clone();
        while written.changed().await.is_ok() {}
    }
}

/// Appends line by line until the child (and its children) close their end.
pub(super) fn append(output: PipeReader, log: &Path) -> anyhow::Result<Written> {
    let opening = || format!("opening the log {}", log.display());
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).with_context(opening)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(opening)?;
    let (done, written) = watch::channel(());
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || {
            // Only a full disk ends this early; the child must go on then, so its output is drained.
            let _done = done;
            let mut output = BufReader::new(output);
            if copy(&mut output, &file).is_err() {
                let _ = io::copy(&mut output, &mut io::sink());
            }
        })?;
    Ok(Written(written))
}

fn copy(output: &mut BufReader<PipeReader>, mut file: &File) -> io::Result<()> {
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        let trimmed = line.trim_ascii();
        if trimmed.starts_with(b"{") {
            let mut whole = trimmed.to_vec();
            whole.push(b'\n');
            file.write_all(&whole)?; // one write a line: lines of two processes do not mix
        } else if !trimmed.is_empty() {
            file.write_all(wrapped(&String::from_utf8_lossy(trimmed)).as_bytes())?;
        }
        line.clear();
    }
    Ok(())
}

/// A line that is not JSON: Postgres speaks so, and a panic, and libraries of C.
fn wrapped(line: &str) -> String {
    let (level, message) = match line.split_once(":  ") {
        Some(("LOG" | "HINT" | "DETAIL" | "STATEMENT" | "CONTEXT" | "NOTICE", rest)) => {
            ("INFO", rest)
        }
        Some(("DEBUG", rest)) => ("DEBUG", rest),
        Some(("WARNING", rest)) => ("WARN", rest),
        Some(("ERROR" | "FATAL" | "PANIC", rest)) => ("ERROR", rest),
        _ => ("INFO", line),
    };
    let timestamp = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let line = serde_json::json!({ "timestamp": timestamp, "level": level, "message": message });
    format!("{line}\n")
}
