//! JSON bodies that are no jobs: read whole, a few kilobytes at most.

use actix_web::web::Payload;
use jobs::ProblemCode;
use serde::de::DeserializeOwned;

use crate::{ctx::Ctx, error::ApiError, job_request::from_json, spool::BodyClock};

/// Reads the body of a request and understands it; a fault says where it is.
pub(crate) async fn json<T: DeserializeOwned>(ctx: &Ctx, mut body: Payload) -> Result<T, ApiError> {
    let (limits, mut json) = (&ctx.config.limits, Vec::new());
    let clock = BodyClock::start(limits);
    while let Some(chunk) = clock.next(&mut body).await? {
        if json.len() + chunk.len() > limits.job_bytes_max {
            let detail = format!("the body may have up to {} bytes", limits.job_bytes_max);
            return Err(ApiError::new(ProblemCode::InvalidRequest, detail));
        }
        json.extend_from_slice(&chunk);
    }
    from_json(&json)
}
