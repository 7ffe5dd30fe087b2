//! Small JSON bodies, read into what they should be.

use actix_web::web::Payload;
use jobs::ProblemCode;
use serde::de::DeserializeOwned;

use crate::{
    ctx::Ctx,
    error::ApiError,
    job_request::{json_fault, not_json},
    spool::BodyClock,
};

/// Reads a body of limited size and time; a fault in it says where it is.
pub(crate) async fn read<T: DeserializeOwned>(ctx: &Ctx, mut body: Payload) -> Result<T, ApiError> {
    let limits = &ctx.config.limits;
    let clock = BodyClock::start(limits);
    let mut json = Vec::new();
    while let Some(chunk) = clock.next(&mut body).await? {
        if json.len() + chunk.len() > limits.job_bytes_max {
            let detail = "the body is too long";
            return Err(ApiError::new(ProblemCode::InvalidRequest, detail));
        }
        json.extend_from_slice(&chunk);
    }
    let mut from = serde_json::Deserializer::from_slice(&json);
    let read = serde_path_to_error::deserialize(&mut from).map_err(|error| json_fault(&error))?;
    from.end().map_err(|error| not_json(&error))?;
    Ok(read)
}
