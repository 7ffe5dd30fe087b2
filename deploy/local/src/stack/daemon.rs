//! The supervisor process: holds the lock, waits for shutdown signals, and serves clients on the socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, watch};

use super::board::StatusBoard;
use super::control::{Connection, Reply, Request};
use super::layout::Layout;
use super::supervisor::Supervisor;

/// Calls [`supervise`] in a session of its own, which gets no Ctrl-C and no hang-up from a terminal.
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
            "another supervisor runs in {}; see {}",
            layout.data.display(),
            layout.command("status")
        )
    })?;
    let socket = layout.socket()?;
    let _ = std::fs::remove_file(&socket);
    let board = Arc::new(StatusBoard::new(layout.clone()));
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
    let mut clients = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                let (supervisor, board) = (Arc::clone(&supervisor), Arc::clone(&board));
                let stop = stop.clone();
                clients.spawn(async move {
                    serve_client(Connection::new(stream), &supervisor, &board, &stop).await;
                });
            },
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = stopping.changed() => break,
        }
    }
    stop.send_replace(true);
    tokio::spawn(async move {
        // A second signal ends this process at once. The kernel then sends the children their death signal.
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        std::process::exit(130);
    });
    supervisor.lock().await.stop().await;
    board.report("INFO", "stack", "stopped");
    let _ = std::fs::remove_file(layout.pid("supervisor"));
    let _ = std::fs::remove_file(&socket);
    // The clients that are still connected get the last line.
    let _ = tokio::time::timeout(Duration::from_secs(1), clients.join_all()).await;
    Ok(())
}

/// Reads the request of one client and sends the replies.
async fn serve_client(
    mut connection: Connection,
    supervisor: &Mutex<Supervisor>,
    board: &StatusBoard,
    stop: &watch::Sender<bool>,
) {
    let mut lines = board.lines();
    let Some(request) = connection.receive::<Request>().await else {
        return;
    };
    let mut stopping = stop.subscribe();
    let work = async {
        match request {
            Request::Status => Some(Reply::Status {
                supervisor: i32::try_from(std::process::id()).unwrap_or_default(),
                rows: board.processes(),
            }),
            Request::Down => {
                stop.send_replace(true);
                std::future::pending().await // the client gets lines until this process ends
            }
            Request::Up(desired) => {
                let mut supervisor = tokio::select! {
                    supervisor = supervisor.lock() => supervisor,
                    _ = stopping.wait_for(|stop| *stop) => return None,
                };
                tokio::select! {
                    up = supervisor.up(&desired) => Some(match up {
                        Ok(ready) => Reply::Up(ready),
                        Err(error) => Reply::Failed(format!("{error:#}")),
                    }),
                    _ = stopping.wait_for(|stop| *stop) => None,
                }
            }
        }
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased; // a client gets all lines before the last reply
            line = lines.recv() => if let Ok(line) = line {
                let last = line.ends_with(" stopped") && line.starts_with("stack ");
                if connection.send(&Reply::Say(line)).await.is_err() || last {
                    return; // if the client is gone, its `up` is abandoned
                }
            },
            reply = &mut work => {
                let Some(reply) = reply else { return };
                // The last poll of `work` may have added lines.
                while let Ok(line) = lines.try_recv() {
                    let _ = connection.send(&Reply::Say(line)).await;
                }
                let _ = connection.send(&reply).await;
                return;
            }
        }
    }
}
