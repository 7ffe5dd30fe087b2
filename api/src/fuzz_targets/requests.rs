//! Requests whose bodies arrive in pieces.

use std::{
    fmt::Debug,
    sync::{Arc, LazyLock},
};

use actix_web::{
    FromRequest, HttpRequest, dev,
    http::header::{CONTENT_TYPE, HeaderValue},
    test::TestRequest,
    web::{Bytes, Payload},
};
use clap::Parser;
use futures_util::{StreamExt, stream};
use tokio::runtime::{self, Runtime};

use crate::{
    config::{Config, Limits},
    http::body_budget::{BodyBudget, BodyShare},
};

/// Longer bodies do not arrive byte by byte, because that takes long.
const BYTEWISE_BYTES_MAX: usize = 2048;

/// The default limits, but with all formats, and with short lines, so that a fuzzer writes lines that
/// are too long.
pub(super) static LIMITS: LazyLock<Limits> = LazyLock::new(|| {
    let database = ["--database-url", "postgres://nobody@localhost"];
    let mut limits = Config::parse_from(["darkroom-api"].into_iter().chain(database)).limits;
    limits.batch_line_bytes_max = 200;
    limits.image_types = decode::Format::ALL.to_vec();
    limits
});

thread_local! {
    static RUNTIME: Runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without threads");
}

pub(super) fn run<F: Future>(reading: F) -> F::Output {
    RUNTIME.with(|runtime| runtime.block_on(reading))
}

pub(super) fn request(content_type: HeaderValue) -> HttpRequest {
    let request = TestRequest::default().insert_header((CONTENT_TYPE, content_type));
    request.to_http_request()
}

/// The body of a request. As on a network, its reader has to wait before each piece.
pub(super) async fn body(request: &HttpRequest, pieces: Vec<Bytes>) -> Payload {
    let pieces = stream::iter(pieces).then(|piece| async {
        tokio::task::yield_now().await;
        Ok(piece)
    });
    let mut body = dev::Payload::Stream {
        payload: pieces.boxed_local(),
    };
    let body = Payload::from_request(request, &mut body).await;
    body.expect("every request has a body")
}

/// The share of a request that is alone.
pub(super) fn share() -> BodyShare {
    Arc::new(BodyBudget::new(&LIMITS)).share("key")
}

/// Checks that a body is read alike however its bytes arrive: at once, in pieces, and byte by byte. Returns what was read.
pub(super) fn read_alike<T: PartialEq + Debug>(body: &[u8], read: impl Fn(Vec<Bytes>) -> T) -> T {
    let whole = read(copy([body]));
    assert_eq!(read(copy(fuzzing::pieces(body))), whole, "in pieces");
    if body.len() <= BYTEWISE_BYTES_MAX {
        assert_eq!(read(copy(body.chunks(1))), whole, "byte by byte");
    }
    whole
}

fn copy<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Bytes> {
    pieces.into_iter().map(Bytes::copy_from_slice).collect()
}
