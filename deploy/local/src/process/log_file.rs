//! Writes the output of a child to its log file. Every line of the file is JSON.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, PipeReader, Write as _};
use std::path::Path;

use anyhow::Context as _;
use tokio::sync::watch;

/// Knows whether all output of the child is in the file.
#[derive(Debug)]
pub(super) struct LogWriter(watch::Receiver<()>);

impl LogWriter {
    /// Waits until all output is in the file.
    pub(super) async fn complete(&self) {
        let mut written = self.0.clone();
        while written.changed().await.is_ok() {}
    }
}

/// Starts a thread that appends each line, until the child and its own children have closed the output.
pub(super) fn append(output: PipeReader, log: &Path) -> anyhow::Result<LogWriter> {
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
            // If the disk is full, the output is read and dropped: otherwise the child would block.
            let _done = done;
            let mut output = BufReader::new(output);
            if copy(&mut output, &file).is_err() {
                let _ = io::copy(&mut output, &mut io::sink());
            }
        })?;
    Ok(LogWriter(written))
}

fn copy(output: &mut BufReader<PipeReader>, mut file: &File) -> io::Result<()> {
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        let trimmed = line.trim_ascii();
        if trimmed.starts_with(b"{") {
            let mut whole = trimmed.to_vec();
            whole.push(b'\n');
            file.write_all(&whole)?; // one write for a line: lines of two processes do not mix
        } else if !trimmed.is_empty() {
            file.write_all(to_json(&String::from_utf8_lossy(trimmed)).as_bytes())?;
        }
        line.clear();
    }
    Ok(())
}

/// Converts a line that is not JSON: from Postgres, a panic or a C library.
fn to_json(line: &str) -> String {
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
