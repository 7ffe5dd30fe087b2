use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::keys::{self, Scope};

use super::actor;
use crate::{auth::Caller, ctx::Ctx, error::ApiError, openapi::NotFound};

/// Ends an API key for good. Repeating is fine.
///
/// This process refuses it from now on; others believe a key that they have just seen for some seconds more.
#[utoipa::path(
    delete, path = "/v1/api_keys/{id}", operation_id = "revoke_key", tag = "keys",
    params(("id" = String, Path, description = "`id` of the key, not the key itself")),
    responses(
        (status = 204, description = "Revoked"),
        NotFound,
    ),
)]
pub(crate) async fn revoke_key(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let id = request.match_info().query("id");
    // What cannot be an id is not shown to the database.
    if !keys::is_owner(id) || !keys::revoke(&ctx.db, id, &actor(&caller)).await? {
        return Err(ApiError::not_found());
    }
    ctx.keyring.forget(id);
    Ok(HttpResponse::NoContent().finish())
}
