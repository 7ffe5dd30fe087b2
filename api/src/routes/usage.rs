//! `/v1/usage`: what jobs used.

use actix_web::{HttpRequest, HttpResponse, get, web::Data};
use chrono::{Datelike, NaiveDate};
use jobs::{
    keys::{Scope, is_owner},
    queue::{self, Usage, UsageQuery},
};
use utoipa_actix_web::service_config::ServiceConfig;
use wire::{Object, UsageList};

use crate::{
    ctx::Ctx,
    http::{error::ApiError, paging::read_query},
    limits::keyring::Caller,
    openapi::InvalidParams,
};

const GROUPS_MAX: i64 = 10_000;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(get_usage);
}

fn usage_body(usage: Usage) -> wire::Usage {
    wire::Usage {
        owner: usage.owner,
        model: usage.model,
        day: usage.day,
        jobs: usage.jobs,
        succeeded: usage.succeeded,
        image_bytes: usage.image_bytes,
        infer_seconds: usage.infer_seconds,
        attempt_seconds: usage.attempt_seconds,
    }
}

/// The usage of jobs that ended in the last 31 days: yours, or of all owners with scope `admin`.
///
/// A deleted job stays counted. A job that is retried counts when it ends again.
#[utoipa::path(
    operation_id = "get_usage", tag = "operating",
    params(
        ("group_by" = Option<String>, Query, pattern = "^(owner|model|day)(,(owner|model|day))*$", description = "`owner`, `model`, `day`, or several of them separated by commas; `day` by default"),
        ("owner" = Option<String>, Query, pattern = "^[a-z0-9][a-z0-9_-]{0,62}$", description = "Only the usage of this owner; another owner than yours needs scope `admin`"),
        ("from" = Option<String>, Query, format = Date, description = "First day on which the jobs ended, in UTC: `2026-01-31`"),
        ("to" = Option<String>, Query, format = Date, description = "Last day"),
    ),
    responses(
        (status = 200, description = "One entry for each group", body = UsageList),
        InvalidParams,
    ),
)]
#[get("/v1/usage")]
async fn get_usage(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let mut query = parse(request.query_string())?;
    if !caller.may(Scope::Admin) {
        match &query.owner {
            Some(owner) if *owner != caller.owner => caller.needs(Scope::Admin)?,
            _ => query.owner = Some(caller.owner.clone()),
        }
    }
    let read = ctx.reads.run(&caller.owner, async |db| {
        queue::usage(&mut *db, &query, GROUPS_MAX).await
    });
    let data = read.await?;
    let groups = [
        ("owner", query.by_owner),
        ("model", query.by_model),
        ("day", query.by_day),
    ];
    Ok(HttpResponse::Ok().json(UsageList {
        object: Object::List,
        group_by: groups
            .iter()
            .filter(|(_, is_grouped)| *is_grouped)
            .map(|(name, _)| (*name).to_owned())
            .collect(),
        data: data.into_iter().map(usage_body).collect(),
    }))
}

fn parse(query: &str) -> Result<UsageQuery, ApiError> {
    let (mut usage, mut is_grouped) = (UsageQuery::default(), false);
    read_query(query, |name, value| {
        is_grouped |= name == "group_by";
        take(&mut usage, name, value)
    })?;
    usage.by_day |= !is_grouped;
    Ok(usage)
}

fn take(usage: &mut UsageQuery, name: &str, value: &str) -> Result<(), &'static str> {
    const DAY: &str = "must be a day of the years 1970 to 9999: 2026-01-31";
    match name {
        "group_by" => {
            for group in value.split(',') {
                match group {
                    "owner" => usage.by_owner = true,
                    "model" => usage.by_model = true,
                    "day" => usage.by_day = true,
                    _ => return Err("can be owner, model and day, with commas between"),
                }
            }
        }
        "owner" if is_owner(value) => usage.owner = Some(value.to_owned()),
        "owner" => return Err("is not the name of an owner"),
        "from" => usage.from = Some(day(value).ok_or(DAY)?),
        "to" => usage.to = Some(day(value).ok_or(DAY)?),
        _ => return Err("there is no such parameter"),
    }
    Ok(())
}

fn day(text: &str) -> Option<NaiveDate> {
    let day: NaiveDate = text.parse().ok()?;
    (1970..=9999).contains(&day.year()).then_some(day)
}
