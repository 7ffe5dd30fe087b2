//! The commands `up`, `down` and `status`: they send a request to the supervisor and show its replies.

use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{Local, Utc};

use super::control::{Connection, DesiredStack, Reply, Request, StackAccess};
use super::daemon::supervise;
use super::layout::Layout;
use super::sample;
use super::saved_state::SavedState;
use crate::paths;

/// Options of the command `up`.
#[derive(Debug)]
pub struct UpOptions {
    pub detach: bool,
    pub apis: u16,
    pub workers: u16,
    pub port: u16,
    pub data: Option<PathBuf>,
    pub sample: bool,
}

/// Starts the stack. Without `detach` it returns after Ctrl-C.
pub async fn up(options: UpOptions) -> anyhow::Result<()> {
    let layout = Layout::open(options.data.as_deref())?;
    if let Some(connection) = Connection::connect(&layout.socket()?).await {
        println!("the stack is running: starting what is missing");
        return bring_up(connection, &layout, &options).await;
    }
    if options.detach {
        spawn_supervisor(&layout)?;
        let connection = connect(&layout).await?;
        let brought_up = bring_up(connection, &layout, &options).await;
        if brought_up.is_err() {
            stop(&layout).await?; // leaves no half-started stack
        }
        return brought_up;
    }
    let mut supervisor = Box::pin(supervise(&layout.data));
    let foreground = async {
        bring_up(connect(&layout).await?, &layout, &options).await?;
        println!("\nCtrl-C stops everything.");
        std::future::pending::<anyhow::Result<()>>().await
    };
    tokio::select! {
        ended = &mut supervisor => {
            println!("stack      stopped"); // this process ends before it could read its last line from the log
            ended
        }
        failed = foreground => {
            // The error appears after the processes that did start have stopped.
            let stopping = stop(&layout);
            let _ = tokio::join!(supervisor, stopping);
            failed
        }
    }
}

/// Stops the stack. With `wipe` it removes the data as well.
pub async fn down(data: Option<&Path>, wipe: bool) -> anyhow::Result<()> {
    let layout = Layout::open(data)?;
    if !stop(&layout).await? {
        println!("nothing runs in {}", layout.data.display());
    }
    if wipe {
        // A cluster that is not in the data folder has a private folder around it.
        let cluster = SavedState::read(&layout).postgres_data;
        let elsewhere = cluster.filter(|cluster| !cluster.starts_with(&layout.data));
        let private_folder = elsewhere.and_then(|cluster| cluster.parent().map(Path::to_owned));
        for path in layout.created_by_stack().into_iter().chain(private_folder) {
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

/// Prints which processes run, where, and since when. Returns whether the stack runs.
pub async fn status(data: Option<&Path>) -> anyhow::Result<bool> {
    let layout = Layout::open(data)?;
    println!("data        {}", layout.data.display());
    if let Some(cluster) = SavedState::read(&layout).postgres_data {
        println!("postgres in {}", cluster.display());
    }
    let Some(mut connection) = Connection::connect(&layout.socket()?).await else {
        println!("nothing runs; {} starts it", layout.command("up"));
        return Ok(false);
    };
    connection.send(&Request::Status).await?;
    while let Some(reply) = connection.receive().await {
        let Reply::Status { supervisor, rows } = reply else {
            continue;
        };
        println!("supervisor  pid {supervisor}");
        for (name, process) in rows {
            let since = process
                .since
                .with_timezone(&Local)
                .format("%Y-%m-%d %H:%M:%S");
            let minutes = (Utc::now() - process.since).num_minutes();
            println!(
                "{name:<11} pid {:<8} since {since} ({minutes} min)  {}",
                process.pid, process.location
            );
        }
        return Ok(true);
    }
    bail!("the supervisor ended before it replied")
}

async fn bring_up(
    mut connection: Connection,
    layout: &Layout,
    options: &UpOptions,
) -> anyhow::Result<()> {
    let desired = DesiredStack {
        apis: options.apis.max(1), // an API runs the migrations and accepts the sample
        workers: options.workers,
        port: options.port,
        env: std::env::vars().collect(),
        bin: paths::bin_dir()?,
    };
    connection.send(&Request::Up(desired)).await?;
    let access = loop {
        match connection.receive().await {
            Some(Reply::Say(line)) => println!("{line}"),
            Some(Reply::Up(access)) => break access,
            Some(Reply::Failed(why)) => {
                bail!("{why}\n  Logs: {}", layout.data.join("logs").display())
            }
            Some(Reply::Status { .. }) | None => {
                bail!("the stack was stopped before it was ready")
            }
        }
    };
    if options.sample && options.workers > 0 {
        sample::classify(&access)
            .await
            .context("classifying the sample photo")?;
    }
    print_usage(layout, &access, options);
    if !options.detach {
        tokio::spawn(show_lines(layout.clone()));
    }
    Ok(())
}

fn print_usage(layout: &Layout, access: &StackAccess, options: &UpOptions) {
    let env = layout.env();
    println!("\nDarkroom  {}\nAPI key   {}", access.url, access.api_key);
    println!("\nTry it:\n  source {}", env.display());
    println!(
        "  curl --data-binary @{} -H 'Content-Type: image/jpeg' \\\n       \
         -H \"Authorization: Bearer $DARKROOM_API_KEY\" -H 'Prefer: wait=30' \\\n       \
         \"$DARKROOM_URL/v1/jobs?model={}\"",
        sample::PHOTO,
        sample::MODEL
    );
    println!("API reference  {}/docs", access.url);
    println!(
        "Console        {}/console (log in with any name; the password is the key)",
        access.url
    );
    println!("Status         {}", layout.command("status"));
    println!("Database       {}", layout.command("psql"));
    if options.detach {
        println!("Stop with      {}", layout.command("down"));
    }
}

/// Prints every new line of the supervisor's log, until this process ends.
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

/// Starts a supervisor that outlives this process and its terminal.
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
    drop(child); // the supervisor keeps running: see `supervise_detached`
    Ok(())
}

async fn connect(layout: &Layout) -> anyhow::Result<Connection> {
    let socket = layout.socket()?;
    for _ in 0..200 {
        if let Some(connection) = Connection::connect(&socket).await {
            return Ok(connection);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    bail!(
        "the supervisor does not accept connections; see {}",
        layout.log("supervisor").display()
    )
}

/// Asks the supervisor to stop and waits for its end. Returns whether a supervisor was running.
async fn stop(layout: &Layout) -> anyhow::Result<bool> {
    let Some(mut connection) = Connection::connect(&layout.socket()?).await else {
        return Ok(false);
    };
    connection.send(&Request::Down).await?;
    while let Some(reply) = connection.receive().await {
        if let Reply::Say(line) = reply {
            println!("{line}");
        }
    }
    // The supervisor holds the lock until its process ends. Then the next `up`, or a wipe, has the folder for itself.
    let lock = std::fs::File::create(layout.lock())?;
    tokio::task::spawn_blocking(move || lock.lock()).await??;
    Ok(true)
}
