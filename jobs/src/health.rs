//! The HTTP server for orchestrators, on a port of its own: `/livez`, `/readyz`, `/metrics`.

mod connections;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use self::connections::{Connections, Reserve, is_out_of_descriptors};
use crate::{backoff::Backoff, tasks};

/// Longest time of one connection: the request, the page and its transfer. A connection carries one request.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// Pauses after failed accepts: a process without descriptors fails at once, again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long to wait for the connection that an accept had no descriptor for. The client may be gone.
const RESERVED_ACCEPT_MAX: Duration = Duration::from_millis(100);

/// Whether the process can work now; else why not, for the operator.
pub type Readiness = Result<(), String>;

/// Limits of the port for orchestrators.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct HealthConfig {
    /// Most open connections of the port of /livez, /readyz and /metrics. A new connection closes the oldest one
    #[arg(long, env = "DARKROOM_METRICS_CONNECTIONS_MAX", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub metrics_connections_max: u16,
}

/// What a connection needs.
struct Server {
    listener: TcpListener,
    config: HealthConfig,
    metrics: PrometheusHandle,
    ready: watch::Receiver<Readiness>,
}

/// Serves until the process ends. `/readyz` follows `ready`; `/livez` always answers 200. Returns the bound address.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(
    listen: SocketAddr,
    config: HealthConfig,
    metrics: PrometheusHandle,
    ready: watch::Receiver<Readiness>,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let listen = listener.local_addr()?;
    tracing::info!(%listen, "health and metrics");
    let server = Arc::new(Server {
        listener,
        config,
        metrics,
        ready,
    });
    tasks::restart("health server", move || accept(server.clone()));
    Ok(listen)
}

async fn accept(server: Arc<Server>) {
    let mut open = Connections::new(server.config.metrics_connections_max.into());
    let mut reserve = Reserve::new();
    let mut backoff = Backoff::new(ACCEPT_PAUSE, ACCEPT_PAUSE_MAX);
    loop {
        let accepted = tokio::select! {
            accepted = server.listener.accept() => accepted,
            // At once, before another thread takes the descriptor.
            () = open.one_ended() => {
                reserve.refill();
                continue;
            }
        };
        let error = match accepted {
            Ok((stream, _)) => {
                backoff.reset();
                reserve.refill();
                open.add(serve_one(server.clone(), stream)).await;
                continue;
            }
            Err(error) => error,
        };
        let is_first = backoff.is_reset();
        let pause = backoff.next_pause();
        if is_first {
            tracing::warn!(error.cause = %error, "cannot accept a connection for health and metrics; trying again");
        }
        // The process has no descriptor left. Probes must get their answer: frees a descriptor of this port.
        if is_out_of_descriptors(&error) && (reserve.free_one() || open.close_oldest().await) {
            let accepted = timeout(RESERVED_ACCEPT_MAX, server.listener.accept()).await;
            if let Ok(Ok((stream, _))) = accepted {
                open.add(serve_one(server.clone(), stream)).await;
                continue;
            }
            reserve.refill();
        }
        sleep(pause).await;
    }
}

/// Answers the one request of a connection.
async fn serve_one(server: Arc<Server>, stream: TcpStream) {
    let service = service_fn(|request| {
        let answer = answer(&request, &server.metrics, &server.ready.borrow());
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // An error means only that the client hung up, or was too slow.
    drop(timeout(CONNECTION_TIME_MAX, connection).await);
}

fn answer(
    request: &Request<Incoming>,
    metrics: &PrometheusHandle,
    ready: &Readiness,
) -> Response<Full<Bytes>> {
    let (status, body) = match request.uri().path() {
        "/livez" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match ready {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
            Err(why) => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready: {why}\n"),
            ),
        },
        "/metrics" => {
            metrics.run_upkeep();
            (StatusCode::OK, metrics.render())
        }
        _ => (
            StatusCode::NOT_FOUND,
            "try /livez, /readyz or /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let text = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, text);
    response
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::watch,
    };

    use super::{HealthConfig, serve};

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut socket = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nHost: health\r\n\r\n");
        let sent = socket.write_all(request.as_bytes()).await;
        sent.expect("the request is sent");
        let mut answer = String::new();
        let read = socket.read_to_string(&mut answer).await;
        read.expect("an answer, then the end of the connection");
        answer
    }

    #[tokio::test]
    async fn idle_connections_cannot_keep_a_probe_out_and_the_oldest_are_closed() {
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let (_ready, is_ready) = watch::channel(Ok(()));
        let config = HealthConfig {
            metrics_connections_max: 4,
        };
        let any_port = "127.0.0.1:0".parse().expect("an address");
        let address = serve(any_port, config, metrics, is_ready).await;
        let address = address.expect("a free port");
        let mut idle = Vec::new();
        for _ in 0..10 {
            idle.push(TcpStream::connect(address).await.expect("a connection"));
        }
        for path in ["/livez", "/readyz", "/metrics"] {
            let answer = get(address, path).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        }
        // 10 idle connections and a request came, and 4 may be open: at least the first 7 are closed.
        for socket in &mut idle[..7] {
            let ended = socket.read(&mut [0; 1]).await;
            assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        }
    }
}
