use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::keys::{self, Scope};
use serde::Serialize;
use utoipa::ToSchema;

use super::{next_link, query_fault};
use crate::{auth::Caller, ctx::Ctx, error::ApiError, key_body::KeyBody, openapi::InvalidParams};

const LIMIT_DEFAULT: u16 = 100;
const LIMIT_MAX: u16 = 500;

/// One page of API keys, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<KeyBody>,
    /// Send it back as `cursor` for the next page; empty on the last one.
    next_cursor: Option<String>,
}

/// The API keys of all owners, newest first, without their secrets.
#[utoipa::path(
    get, path = "/v1/api_keys", operation_id = "list_keys", tag = "keys",
    params(
        ("owner" = Option<String>, Query, description = "Only keys of this owner"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "1 to 500 keys a page; 100 if left out"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = KeyList, headers(("Link" = String, description = "`rel=\"next\"`"))),
        InvalidParams,
    ),
)]
pub(crate) async fn list_keys(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Admin)?;
    let asked = Asked::parse(request.query_string())?;
    let (owner, before) = (asked.owner.as_deref(), asked.before.as_deref());
    let mut keys = keys::list(&ctx.db, owner, before, asked.limit + 1).await?;
    let more = keys.len() > usize::from(asked.limit);
    keys.truncate(asked.limit.into());
    let next_cursor = keys
        .last()
        .filter(|_| more)
        .map(|key| format!("key_{}", key.key_id));
    let mut response = HttpResponse::Ok();
    if let Some(cursor) = &next_cursor {
        response.insert_header(next_link(&request, cursor));
    }
    Ok(response.json(KeyList {
        object: "list",
        data: keys
            .into_iter()
            .map(|key| KeyBody::new(key, None))
            .collect(),
        next_cursor,
    }))
}

#[derive(Debug)]
struct Asked {
    owner: Option<String>,
    before: Option<String>,
    limit: u16,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut asked = Self {
            owner: None,
            before: None,
            limit: LIMIT_DEFAULT,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            asked
                .take(&name, &value)
                .map_err(|detail| query_fault(&name, detail))?;
        }
        Ok(asked)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            "owner" if keys::is_owner(value) => self.owner = Some(value.to_owned()),
            "owner" => return Err("is not the name of an owner"),
            "cursor" => {
                let id = value.strip_prefix("key_").filter(|id| keys::is_owner(id));
                self.before = Some(id.ok_or("is not a cursor of ours")?.to_owned());
            }
            "limit" => {
                let limit = value.parse().ok();
                let limit = limit.filter(|limit| (1..=LIMIT_MAX).contains(limit));
                self.limit = limit.ok_or("must lie in 1..=500")?;
            }
            _ => return Err("there is no such parameter"),
        }
        Ok(())
    }
}
