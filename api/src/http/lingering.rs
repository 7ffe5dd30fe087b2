//! The body of a response that also ends its request: the client gets the whole response, and then its connection is freed.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use tokio::runtime::Handle;

use super::request_body::RequestBody;
use crate::{ctx::Ctx, limits::open_requests::OpenRequest};

/// The body of a response. After its last byte, it reads and drops what the client still sends.
///
/// A client that sends its whole body before it reads gets to the response in this way (the lingering close of nginx). Actix
/// announces `connection: close` for a response that comes before the end of the request body, and closes the connection when
/// this body has ended.
pub(crate) struct LingeringBody<B> {
    body: Pin<Box<B>>,
    /// Where a body opens its connections: see `request.rs`.
    runtime: Handle,
    is_sent: bool,
    /// Kept until the response has ended: Actix decides by it whether the connection must be closed.
    _request_body: Option<RequestBody>,
    draining: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Given back when the client has the response.
    open: Option<OpenRequest>,
}

impl<B: MessageBody> LingeringBody<B> {
    /// Wraps the body of a response. The shutdown signal ends the reading.
    pub fn new(
        body: B,
        request_body: Option<RequestBody>,
        open: Option<OpenRequest>,
        ctx: &Ctx,
    ) -> Self {
        // Of a response without a known length, the client sees the end only afterwards.
        let has_length = matches!(body.size(), BodySize::Sized(1..));
        let unread = request_body.clone();
        let unread = unread.filter(|body| has_length && !body.has_ended());
        let draining = unread.map(|unread| {
            let (config, shutdown) = (ctx.config.connections.clone(), ctx.shutdown().clone());
            let drained = async move {
                shutdown.run_until_cancelled(unread.drain(config)).await;
            };
            Box::pin(drained) as Pin<Box<dyn Future<Output = ()>>>
        });
        Self {
            body: Box::pin(body),
            runtime: ctx.runtime.clone(),
            is_sent: false,
            _request_body: request_body,
            draining,
            open,
        }
    }
}

impl<B: MessageBody> MessageBody for LingeringBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        let _entered = this.runtime.enter();
        if !this.is_sent {
            if let Some(chunk) = ready!(this.body.as_mut().poll_next(context)) {
                return Poll::Ready(Some(chunk));
            }
            this.is_sent = true;
            this.open = None;
        }
        if let Some(draining) = &mut this.draining {
            ready!(draining.as_mut().poll(context));
            this.draining = None;
        }
        Poll::Ready(None)
    }
}
