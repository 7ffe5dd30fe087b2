//! What the commands `up`, `down` and `status` do: ask the supervisor, show its answers.

use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{Local, Utc};

use super::control::{Answer, Ready, Request, Wire, Wish};
use super::daemon::supervise;
use super::layout::Layout;
use super::memory::Memory;
use super::sample;
use crate::places;

/// What `up` was asked for.
#[derive(Debug)]
pub struct Choice {
    pub detach: bool,
    pub apis: u16,
    pub workers: u16,
    pub port: u16,
    pub data: Option<PathBuf>,
    pub sample: bool,
}

/// Brings the stack up; in the foreground it stays until Ctrl-C.
pub async fn up(choice: Choice) -> anyhow::Result<()> {
    let layout = Layout::open(choice.data.as_deref())?;
    if let Some(wire) = Wire::connect(&layout.socket()?).await {
        println!("the stack runs already: starting what is missing");
        return bring_up(wire, &layout, &choice).await;
    }
    if choice.detach {
        spawn_supervisor(&layout)?;
        let wire = connect(&layout).await?;
        let brought_up = bring_up(wire, &layout, &choice).await;
        if brought_up.is_err() {
            stop(&layout).await?; // nothing half up stays behind
        }
        return brought_up;
    }
    let mut supervisor = Box::pin(supervise(&layout.data));
    let foreground = async {
        bring_up(connect(&layout).await?, &layout, &choice).await?;
        println!("\nCtrl-C stops everything.");
        std::future::pending::<anyhow::Result<()>>().await
    };
    tokio::select! {
        ended = &mut supervisor => {
            println!("stack      stopped"); // what was said last, faster than it could be shown
            ended
        }
        failed = foreground => {
            // Stops what was started before it says why it could not go on.
            let stopping = stop(&layout);
            let _ = tokio::join!(supervisor, stopping);
            failed
        }
    }
}

/// Stops the stack; with `wipe` removes its data as well.
pub async fn down(data: Option<&Path>, wipe: bool) -> anyhow::Result<()> {
    let layout = Layout::open(data)?;
    if !stop(&layout).await? {
        println!("nothing runs in {}", layout.data.display());
    }
    if wipe {
        // A cluster outside has a private folder around it.
        let cluster = Memory::read(&layout).postgres_data;
        let outside = cluster.filter(|cluster| !cluster.starts_with(&layout.data));
        let elsewhere = outside.and_then(|cluster| cluster.parent().map(Path::to_owned));
        for path in layout.made_by_a_stack().into_iter().chain(elsewhere) {
            let removed = match path.symlink_metadata() {
                Ok(found) if found.is_dir() => std::fs::remove_dir_all(&path),
                Ok(_) => std::fs::remove_file(&path),
                Err(_) => continue,
            };
            removed.with_context(|| format!("removing {}", path.display()))?;
        }
        println!("wiped {}", layout.data.display());
    }
    Ok(())
}

/// Prints what runs, where, and since when; whether anything does.
pub async fn status(data: Option<&Path>) -> anyhow::Result<bool> {
    let layout = Layout::open(data)?;
    println!("data        {}", layout.data.display());
    if let Some(cluster) = Memory::read(&layout).postgres_data {
        println!("postgres in {}", cluster.display());
    }
    let Some(mut wire) = Wire::connect(&layout.socket()?).await else {
        println!("nothing runs; ./deploy/local/up starts it");
        return Ok(false);
    };
    wire.send(&Request::Status).await?;
    while let Some(answer) = wire.receive().await {
        let Answer::Status { supervisor, rows } = answer else {
            continue;
        };
        println!("supervisor  pid {supervisor}");
        for (name, row) in rows {
            let since = row.since.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S");
            let minutes = (Utc::now() - row.since).num_minutes();
            println!(
                "{name:<11} pid {:<8} since {since} ({minutes} min)  {}",
                row.pid, row.place
            );
        }
        return Ok(true);
    }
    bail!("the supervisor went away while it was asked")
}

async fn bring_up(mut wire: Wire, layout: &Layout, choice: &Choice) -> anyhow::Result<()> {
    let wish = Wish {
        apis: choice.apis.max(1), // something must migrate, and take jobs
        workers: choice.workers,
        port: choice.port,
        env: std::env::vars().collect(),
        bin: places::bin_dir()?,
    };
    wire.send(&Request::Up(wish)).await?;
    let ready = loop {
        match wire.receive().await {
            Some(Answer::Say(line)) => println!("{line}"),
            Some(Answer::Up(ready)) => break ready,
            Some(Answer::Failed(why)) => {
                bail!("{why}\n  Logs: {}", layout.data.join("logs").display())
            }
            Some(Answer::Status { .. }) | None => {
                bail!("the stack was stopped before it was ready")
            }
        }
    };
    if choice.sample && choice.workers > 0 {
        sample::classify(&ready)
            .await
            .context("classifying the sample photo")?;
    }
    say_how_to_use(layout, &ready, choice);
    if !choice.detach {
        tokio::spawn(show_lines(layout.clone()));
    }
    Ok(())
}

fn say_how_to_use(layout: &Layout, ready: &Ready, choice: &Choice) {
    let env = layout.env();
    println!("\nDarkroom  {}\nAPI key   {}", ready.url, ready.api_key);
    println!("\nTry it:\n  source {}", env.display());
    println!(
        "  curl --data-binary @{} -H 'Content-Type: image/jpeg' \\\n       \
         -H \"Authorization: Bearer $DARKROOM_API_KEY\" -H 'Prefer: wait=30' \\\n       \
         \"$DARKROOM_URL/v1/jobs?model={}\"",
        sample::PHOTO,
        sample::MODEL
    );
    println!("API reference  {}/docs", ready.url);
    println!(
        "Console        {}/console (a browser asks: any name, and the key as the password)",
        ready.url
    );
    if choice.detach {
        println!("Stop with      ./deploy/local/down");
    }
}

/// Prints what happens from now on, until the process ends.
async fn show_lines(layout: Layout) -> anyhow::Result<()> {
    let mut log = std::fs::File::open(layout.log("supervisor"))?;
    log.seek(SeekFrom::End(0))?;
    let mut log = BufReader::new(log);
    let mut line = String::new();
    loop {
        while log.read_line(&mut line)? > 0 {
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            println!("{:<10} {}", text("name"), text("message"));
            line.clear();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Starts the supervisor so that it outlives us and our terminal.
fn spawn_supervisor(layout: &Layout) -> anyhow::Result<()> {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(layout.log("supervisor"))
        .context("opening the supervisor's log")?;
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.arg("supervise").arg("--data").arg(&layout.data);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let child = command.spawn().context("starting the supervisor")?;
    drop(child); // it goes on without us: see `supervise_detached`
    Ok(())
}

async fn connect(layout: &Layout) -> anyhow::Result<Wire> {
    let socket = layout.socket()?;
    for _ in 0..200 {
        if let Some(wire) = Wire::connect(&socket).await {
            return Ok(wire);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    bail!(
        "the supervisor does not answer; see {}",
        layout.log("supervisor").display()
    )
}

/// Asks the supervisor to stop, and waits until it has; whether there was one.
async fn stop(layout: &Layout) -> anyhow::Result<bool> {
    let Some(mut wire) = Wire::connect(&layout.socket()?).await else {
        return Ok(false);
    };
    wire.send(&Request::Down).await?;
    while let Some(answer) = wire.receive().await {
        if let Answer::Say(line) = answer {
            println!("{line}");
        }
    }
    // The lock goes with the process: then a next `up` or a wipe has the folder to itself.
    let lock = std::fs::File::create(layout.lock())?;
    tokio::task::spawn_blocking(move || lock.lock()).await??;
    Ok(true)
}
