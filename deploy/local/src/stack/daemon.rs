//! The supervising process: holds the lock, hears signals, serves whoever asks over the socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, watch};

use super::board::Board;
use super::control::{Answer, Request, Wire};
use super::layout::Layout;
use super::supervisor::Supervisor;

/// The same in a session of its own: no terminal's Ctrl-C or hang-up reaches it.
pub async fn supervise_detached(data: &Path) -> anyhow::Result<()> {
    nix::unistd::setsid().context("leaving the terminal")?;
    supervise(data).await
}

/// Supervises the stack of one data folder until SIGTERM, SIGINT or `down`.
pub async fn supervise(data: &Path) -> anyhow::Result<()> {
    let layout = Layout::open(Some(data))?;
    let lock = std::fs::File::create(layout.lock())?;
    lock.try_lock().with_context(|| {
        format!(
            "another supervisor has {}; see ./deploy/local/status",
            layout.data.display()
        )
    })?;
    let socket = layout.socket()?;
    let _ = std::fs::remove_file(&socket);
    let board = Arc::new(Board::new(layout.clone()));
    std::fs::write(
        layout.pid("supervisor"),
        format!("{}\n", std::process::id()),
    )?;
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("listening on {}", socket.display()))?;
    let (stop, mut stopping) = watch::channel(false);
    let supervisor = Supervisor::new(layout.clone(), Arc::clone(&board));
    let supervisor = Arc::new(Mutex::new(supervisor));

    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let mut conversations = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                let (supervisor, board) = (Arc::clone(&supervisor), Arc::clone(&board));
                let stop = stop.clone();
                conversations.spawn(async move {
                    converse(Wire::over(stream), &supervisor, &board, &stop).await;
                });
            },
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = stopping.changed() => break,
        }
    }
    stop.send_replace(true);
    tokio::spawn(async move {
        // Who asks twice does not want to wait; the kernel ends the children with us.
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        std::process::exit(130);
    });
    supervisor.lock().await.stop().await;
    board.say("INFO", "stack", "stopped");
    let _ = std::fs::remove_file(layout.pid("supervisor"));
    let _ = std::fs::remove_file(&socket);
    // Those who asked for this get their last line.
    let _ = tokio::time::timeout(Duration::from_secs(1), conversations.join_all()).await;
    Ok(())
}

/// Serves one asker.
async fn converse(
    mut wire: Wire,
    supervisor: &Mutex<Supervisor>,
    board: &Board,
    stop: &watch::Sender<bool>,
) {
    let mut lines = board.lines();
    let Some(request) = wire.receive::<Request>().await else {
        return;
    };
    let mut stopping = stop.subscribe();
    let work = async {
        match request {
            Request::Status => Some(Answer::Status {
                supervisor: i32::try_from(std::process::id()).unwrap_or_default(),
                rows: board.rows(),
            }),
            Request::Down => {
                stop.send_replace(true);
                std::future::pending().await // lines go on until the process ends
            }
            Request::Up(wish) => {
                let mut supervisor = tokio::select! {
                    supervisor = supervisor.lock() => supervisor,
                    _ = stopping.wait_for(|stop| *stop) => return None,
                };
                tokio::select! {
                    up = supervisor.up(&wish) => Some(match up {
                        Ok(ready) => Answer::Up(ready),
                        Err(error) => Answer::Failed(format!("{error:#}")),
                    }),
                    _ = stopping.wait_for(|stop| *stop) => None,
                }
            }
        }
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased; // all lines before the answer that they lead to
            line = lines.recv() => if let Ok(line) = line {
                let last = line.ends_with(" stopped") && line.starts_with("stack ");
                if wire.send(&Answer::Say(line)).await.is_err() || last {
                    return; // for an asker who left, an `up` ends where it is
                }
            },
            answer = &mut work => {
                let Some(answer) = answer else { return };
                // What was said while `work` was last polled is not in `lines.recv()` yet.
                while let Ok(line) = lines.try_recv() {
                    let _ = wire.send(&Answer::Say(line)).await;
                }
                let _ = wire.send(&answer).await;
                return;
            }
        }
    }
}
