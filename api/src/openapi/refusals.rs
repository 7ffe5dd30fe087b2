//! Descriptions of refusals that several routes share. Only the OpenAPI document uses these types; handlers return `ApiError`.
#![expect(dead_code, reason = "they only describe")]

use utoipa::IntoResponses;
use wire::Problem;

#[derive(IntoResponses)]
#[response(
    status = 400,
    description = "invalid_request",
    content_type = "application/problem+json"
)]
pub(crate) struct InvalidRequest(Problem);

#[derive(IntoResponses)]
#[response(
    status = 404,
    description = "not_found",
    content_type = "application/problem+json"
)]
pub(crate) struct NotFound(Problem);

#[derive(IntoResponses)]
#[response(
    status = 408,
    description = "invalid_request: the body came too slowly",
    content_type = "application/problem+json"
)]
pub(crate) struct SlowBody(Problem);

#[derive(IntoResponses)]
#[response(
    status = 422,
    description = "invalid_params",
    content_type = "application/problem+json"
)]
pub(crate) struct InvalidParams(Problem);
