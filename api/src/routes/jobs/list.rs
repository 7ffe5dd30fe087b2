use actix_web::{HttpRequest, HttpResponse, get, web::Data};
use chrono::{DateTime, Utc};
use jobs::{
    JobState,
    keys::Scope,
    queue::{self, PageSize, QueueError},
};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use utoipa::ToSchema;

use crate::{
    ctx::Ctx,
    http::{
        error::ApiError,
        json_page::JsonPage,
        paging::{next_link, parse_limit, read_query},
    },
    job_fields::job_body,
    limits::keyring::Caller,
    openapi::InvalidParams,
    submit::job_request::is_out_of_range,
};

const LIMIT_DEFAULT: u16 = 50;
const LIMIT_MAX: u16 = 500;
const JOBS_READ_AT_ONCE: u16 = 50;

/// One page of jobs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobList {
    #[schema(example = "list")]
    object: &'static str,
    #[schema(value_type = Vec<wire::Job>)]
    data: Vec<Box<RawValue>>,
    /// The `cursor` of the next page; empty on the last page. A page of a filtered list may be short, even without a job, and have a
    /// next one: a request looks at a limited number of jobs.
    next_cursor: Option<String>,
}

/// Your jobs, newest first.
///
/// Read on until `next_cursor` is empty. A page of jobs with large results has fewer jobs than `limit`. With filters that few of
/// your newest jobs fit, a page may have fewer too, or none, and a `next_cursor`: one request looks at 20,000 jobs at most by default.
#[utoipa::path(
    operation_id = "list_jobs", tag = "jobs",
    params(
        ("status" = Option<wire::JobStatus>, Query, description = "Only jobs in this state"),
        ("model" = Option<String>, Query, description = "Only jobs of this model, by its name"),
        ("task" = Option<String>, Query, description = "Only jobs of this task"),
        ("batch_id" = Option<String>, Query, description = "Only jobs of this batch"),
        ("metadata.KEY" = Option<String>, Query, description = "Only jobs whose metadata has this value under `KEY`; numbers and booleans as JSON writes them"),
        ("created_after" = Option<String>, Query, format = DateTime, description = "Only jobs created at or after this time"),
        ("created_before" = Option<String>, Query, format = DateTime, description = "Only jobs created before this time"),
        ("include" = Option<String>, Query, description = "`attempts`: adds every attempt of each job"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "1 to 500 jobs a page; 50 by default. A page of jobs with large results is shorter"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = JobList, headers(("Link" = String, description = "`rel=\"next\"`"))),
        InvalidParams,
    ),
)]
#[get("/v1/jobs")]
pub(super) async fn list_jobs(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let query = ListQuery::parse(request.query_string())?;
    let mut page = JsonPage::new(ctx.config.limits.page_bytes_max);
    let next_cursor = fill_page(&ctx, &caller.owner, query, &mut page).await?;
    let mut response = HttpResponse::Ok();
    if let Some(cursor) = &next_cursor {
        response.insert_header(next_link(&request, cursor));
    }
    Ok(response.json(JobList {
        object: "list",
        data: page.into_items(),
        next_cursor,
    }))
}

/// Adds jobs until the page is full. Reads some at a time, because jobs in memory need much more room than their JSON. Returns
/// the cursor of the next page.
async fn fill_page(
    ctx: &Ctx,
    owner: &str,
    mut query: ListQuery,
    page: &mut JsonPage,
) -> Result<Option<String>, ApiError> {
    let steps = query.limit.div_ceil(JOBS_READ_AT_ONCE);
    // All steps together look at as many jobs as a request may.
    let looked_at = ctx.config.limits.list_jobs_looked_at_max / u32::from(steps);
    let mut next = None;
    for _ in 0..steps {
        let wanted = query.limit - page.len() as u16;
        let size = PageSize {
            jobs: wanted.min(JOBS_READ_AT_ONCE),
            looked_at: looked_at.max(1),
        };
        let read = ctx.reads.page(owner, async |db| {
            let read = queue::list(&mut *db, owner, &query.filter, size).await?;
            let attempts = if query.with_attempts {
                let attempts = queue::attempts_of_all(&mut *db, &read.jobs).await?;
                attempts.into_iter().map(Some).collect()
            } else {
                vec![None; read.jobs.len()]
            };
            Ok::<_, QueueError>((read, attempts))
        });
        let (read, attempts) = read.await?;
        next = read.next;
        let mut jobs = read.jobs.into_iter().zip(attempts).peekable();
        while let Some((job, attempts)) = jobs.next() {
            let id = job.id;
            page.push(&job_body(job, attempts));
            if page.is_full() && jobs.peek().is_some() {
                next = Some(id);
                break;
            }
        }
        if next.is_none() || page.is_full() || page.len() >= usize::from(query.limit) {
            break;
        }
        query.filter.before = next;
    }
    Ok(next.map(|job| job.to_string()))
}

/// The parsed query of a list.
#[derive(Debug)]
pub(crate) struct ListQuery {
    filter: queue::JobFilter,
    limit: u16,
    with_attempts: bool,
}

impl ListQuery {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut query = Self {
            filter: queue::JobFilter::default(),
            limit: LIMIT_DEFAULT,
            with_attempts: false,
        };
        read_query(text, |name, value| query.take(name, value))?;
        Ok(query)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        const TIME: &str = "must be an RFC 3339 time: 2026-01-31T12:00:00Z";
        if value.contains('\0') || name.contains('\0') {
            return Err("must not contain NUL");
        }
        match name {
            "status" => self.filter.state = Some(state(value)?),
            "model" => self.filter.model = Some(value.to_owned()),
            "task" => self.filter.task = Some(value.to_owned()),
            "batch_id" => {
                self.filter.batch = Some(value.parse().map_err(|_| "is not the id of a batch")?);
            }
            "created_after" => self.filter.created_after = Some(time(value).ok_or(TIME)?),
            "created_before" => self.filter.created_before = Some(time(value).ok_or(TIME)?),
            "cursor" => {
                self.filter.before = Some(value.parse().map_err(|_| "is not a cursor of ours")?);
            }
            "limit" => {
                self.limit = parse_limit(value, LIMIT_MAX).ok_or("must lie in 1..=500")?;
            }
            "include" if value == "attempts" => self.with_attempts = true,
            "include" => return Err("can be `attempts`"),
            _ => {
                let key = name
                    .strip_prefix("metadata.")
                    .ok_or("there is no such parameter")?;
                self.filter
                    .metadata
                    .insert(key.to_owned(), Value::String(value.to_owned()));
            }
        }
        Ok(())
    }
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    text.parse().ok().filter(|time| !is_out_of_range(*time))
}

fn state(text: &str) -> Result<JobState, &'static str> {
    let text = if text == "cancelled" {
        "canceled"
    } else {
        text
    };
    serde_json::from_value(json!(text)).map_err(
        |_| "must be one of scheduled, queued, running, succeeded, failed, canceled, expired",
    )
}

#[cfg(test)]
mod tests {
    use jobs::JobState;

    use super::ListQuery;

    #[test]
    fn a_list_takes_both_spellings_of_canceled_and_refuses_the_unknown() {
        let state = |query| ListQuery::parse(query).map(|query| query.filter.state);
        assert_eq!(
            state("status=cancelled").expect("fits"),
            Some(JobState::Canceled)
        );
        assert_eq!(
            state("status=canceled").expect("fits"),
            Some(JobState::Canceled)
        );
        for bad in [
            "status=done",
            "limit=0",
            "limit=501",
            "cursor=x",
            "colour=red",
            "created_after=today",
        ] {
            assert!(ListQuery::parse(bad).is_err(), "{bad}");
        }
    }
}
