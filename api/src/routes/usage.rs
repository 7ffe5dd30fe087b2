use actix_web::{HttpRequest, HttpResponse, web::Data};
use chrono::{Datelike, NaiveDate};
use jobs::{
    keys::{Scope, is_owner},
    queue::{self, Usage, UsageQuery},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::query_fault;
use crate::{auth::Caller, ctx::Ctx, error::ApiError, openapi::InvalidParams};

const GROUPS_MAX: i64 = 10_000;

/// What jobs used, added up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageList {
    #[schema(example = "list")]
    object: &'static str,
    /// What it is grouped by.
    group_by: Vec<&'static str>,
    /// Latest day first; 10,000 groups at most.
    data: Vec<Usage>,
}

/// What jobs used that were made in the last 31 days and have ended: yours, or with scope `admin` everyone's.
///
/// Read from the finished jobs themselves: millions of them take seconds.
#[utoipa::path(
    get, path = "/v1/usage", operation_id = "get_usage", tag = "operating",
    params(
        ("group_by" = Option<String>, Query, pattern = "^(owner|model|day)(,(owner|model|day))*$", description = "`owner`, `model`, `day`, or several of them with commas between; `day` if left out"),
        ("owner" = Option<String>, Query, pattern = "^[a-z0-9][a-z0-9_-]{0,62}$", description = "Only this owner's; another one than yours needs scope `admin`"),
        ("from" = Option<String>, Query, format = Date, description = "First day on which the jobs ended, in UTC: `2026-01-31`"),
        ("to" = Option<String>, Query, format = Date, description = "Last day"),
    ),
    responses(
        (status = 200, description = "One entry a group", body = UsageList),
        InvalidParams,
    ),
)]
pub(crate) async fn get_usage(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let mut asked = parse(request.query_string())?;
    if !caller.may(Scope::Admin) {
        match &asked.owner {
            Some(owner) if *owner != caller.owner => caller.needs(Scope::Admin)?,
            _ => asked.owner = Some(caller.owner.clone()),
        }
    }
    let data = queue::usage(&ctx.db, &asked, GROUPS_MAX).await?;
    let groups = [
        ("owner", asked.by_owner),
        ("model", asked.by_model),
        ("day", asked.by_day),
    ];
    Ok(HttpResponse::Ok().json(UsageList {
        object: "list",
        group_by: groups
            .iter()
            .filter_map(|(name, is_asked)| is_asked.then_some(*name))
            .collect(),
        data,
    }))
}

fn parse(query: &str) -> Result<UsageQuery, ApiError> {
    let (mut asked, mut grouped) = (UsageQuery::default(), false);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        grouped |= name == "group_by";
        take(&mut asked, &name, &value).map_err(|detail| query_fault(&name, detail))?;
    }
    asked.by_day |= !grouped;
    Ok(asked)
}

fn take(asked: &mut UsageQuery, name: &str, value: &str) -> Result<(), &'static str> {
    const DAY: &str = "must be a day of the years 1970 to 9999: 2026-01-31";
    match name {
        "group_by" => {
            for group in value.split(',') {
                match group {
                    "owner" => asked.by_owner = true,
                    "model" => asked.by_model = true,
                    "day" => asked.by_day = true,
                    _ => return Err("can be owner, model and day, with commas between"),
                }
            }
        }
        "owner" if is_owner(value) => asked.owner = Some(value.to_owned()),
        "owner" => return Err("is not the name of an owner"),
        "from" => asked.from = Some(day(value).ok_or(DAY)?),
        "to" => asked.to = Some(day(value).ok_or(DAY)?),
        _ => return Err("there is no such parameter"),
    }
    Ok(())
}

fn day(text: &str) -> Option<NaiveDate> {
    let day: NaiveDate = text.parse().ok()?;
    (1970..=9999).contains(&day.year()).then_some(day)
}
