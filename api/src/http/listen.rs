//! The HTTP server of Actix on connections of our own.

use std::{
    fmt::Debug,
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_http::{HttpServiceBuilder, Request, Response, body::MessageBody, error::DispatchError};
use actix_server::{Server, ServerBuilder};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service, map_config,
};
use actix_web::dev::AppConfig;
use tokio::net::{TcpSocket, TcpStream};

use super::connection::Connection;
use crate::Config;

/// How long the head of the first request of a connection may take.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection stays open without a request.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a connection is read after its last response, so that the client gets the response before the end.
const LINGER: Duration = Duration::from_secs(1);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Serves an application, in as many threads as configured. Returns the address, and the server: it serves while it is awaited.
///
/// # Errors
/// The address cannot be bound.
pub(crate) fn listen<F, A, S, B>(config: &Config, app: F) -> io::Result<(SocketAddr, Server)>
where
    F: Fn() -> A + Send + Clone + 'static,
    A: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig, Error = actix_web::Error> + 'static,
    S::InitError: Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let listener = bind(config.listen)?;
    let address = listener.local_addr()?;
    let write_timeout = Duration::from_millis(config.connections.write_timeout_ms);
    let mut server = ServerBuilder::new()
        .max_concurrent_connections(config.connections_max)
        .shutdown_timeout(config.shutdown_seconds);
    if config.http_threads > 0 {
        server = server.workers(config.http_threads);
    }
    let shutdown = server.graceful_shutdown_signal();
    let server = server.listen("api", listener, move || {
        let shutdown = shutdown.clone();
        let http = HttpServiceBuilder::<Connection, _>::default()
            .graceful_shutdown_signal(move || {
                let shutdown = shutdown.clone();
                async move { shutdown.notified().await }
            })
            .client_request_timeout(HEAD_TIME_MAX)
            .client_disconnect_timeout(LINGER)
            .keep_alive(KEEP_ALIVE)
            .local_addr(address)
            .h1(map_config(app(), |()| AppConfig::default()));
        fn_service(move |stream: TcpStream| {
            let peer = stream.peer_addr().ok();
            let connection = Connection::new(stream, write_timeout);
            std::future::ready(Ok::<_, DispatchError>((connection, peer)))
        })
        .and_then(http)
    })?;
    Ok((address, server.run()))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A process that starts again needs the port of its predecessor.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}
