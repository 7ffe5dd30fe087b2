//! The HTTP server of `darkroom-local s3`. It is a process of its own, so that tests can kill it.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::faults::Faults;
use super::protocol::Objects;
use super::quirks::Quirks;
use super::storage::Storage;

/// How long running requests may take after SIGTERM.
const GRACE: std::time::Duration = std::time::Duration::from_secs(3);

/// The only key pair that the server accepts.
#[derive(Clone)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// Serves the objects of folder `data` over S3 until SIGTERM or SIGINT.
pub async fn serve(listen: SocketAddr, data: &Path, allowed: Credentials) -> anyhow::Result<()> {
    let storage = Storage::open(data)
        .with_context(|| format!("opening the objects in {}", data.display()))?;
    let objects = Objects::new(storage, Faults::beside(data), Quirks::beside(data));
    let mut builder = S3ServiceBuilder::new(objects);
    builder.set_auth(SimpleAuth::from_single(
        allowed.access_key,
        allowed.secret_key,
    ));
    let service = builder.build();

    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listening on {listen}: does another process use the port?"))?;
    tracing::info!(listen = %listener.local_addr()?, data = %data.display(), "s3 is ready");
    let connections = GracefulShutdown::new();
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = term.recv() => break,
            _ = int.recv() => break,
        };
        let Ok((stream, _)) = accepted else {
            // Most likely this process has no file handle left. Without the pause this loop would spin.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let server = Builder::new(TokioExecutor::new());
        let connection = server.serve_connection(TokioIo::new(stream), service.clone());
        let connection = connections.watch(connection.into_owned());
        tokio::spawn(async move {
            if let Err(cause) = connection.await {
                tracing::debug!(%cause, "connection ended");
            }
        });
    }
    let _ = tokio::time::timeout(GRACE, connections.shutdown()).await;
    tracing::info!("s3 stopped");
    Ok(())
}
