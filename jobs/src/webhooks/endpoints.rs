use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::EndpointId;
use crate::{Secret, events::EventType};

/// A receiver of an owner's events.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub id: EndpointId,
    pub url: String,
    pub events: Vec<EventType>,
    pub created_at: DateTime<Utc>,
    /// When the endpoint was disabled, because it answered 410.
    pub disabled_at: Option<DateTime<Utc>>,
}

/// Makes an endpoint. `None`: the owner has `endpoints_max` endpoints already. The audit names the host, without the rest of the URL,
/// which may hold a token, and the actor; the database's login if `None`.
///
/// # Errors
/// Postgres is away.
pub async fn create_endpoint(
    db: &PgPool,
    owner: &str,
    url: &str,
    events: &[EventType],
    secret: &Secret,
    endpoints_max: i64,
    (host, actor): (Option<&str>, Option<&str>),
) -> Result<Option<Endpoint>, sqlx::Error> {
    let names: Vec<_> = events.iter().map(|event| event.as_str().into()).collect();
    let made = sqlx::query!(
        r#"with made as materialized (select * from create_webhook_endpoint($1, $2, $3, $4, $5))
           -- A join, so that no endpoint is made without its line in the audit.
           select made.endpoint_id as "endpoint_id!", made.created_at as "created_at!"
           from made, audited('create_webhook_endpoint', 'endpoint_' || replace(made.endpoint_id::text, '-', ''),
                              jsonb_build_object('owner', $1::text, 'host', $6::text), 'created', $7)"#,
        owner,
        url,
        &names as &[String],
        secret.expose(),
        endpoints_max,
        host,
        actor
    );
    Ok(made.fetch_optional(db).await?.map(|made| Endpoint {
        id: made.endpoint_id.into(),
        url: url.to_owned(),
        events: events.to_vec(),
        created_at: made.created_at,
        disabled_at: None,
    }))
}

/// All endpoints of an owner, oldest first.
///
/// # Errors
/// Postgres is away.
pub async fn endpoints(db: &PgPool, owner: &str) -> Result<Vec<Endpoint>, sqlx::Error> {
    let rows = sqlx::query!(
        "select endpoint_id, url, events, created_at, disabled_at from webhook_endpoints where owner = $1 order by endpoint_id",
        owner
    );
    let rows = rows.fetch_all(db).await?;
    let endpoints = rows.into_iter().map(|row| Endpoint {
        id: row.endpoint_id.into(),
        url: row.url,
        // A newer program may have stored types that this one does not know.
        events: row
            .events
            .iter()
            .filter_map(|event| event.parse().ok())
            .collect(),
        created_at: row.created_at,
        disabled_at: row.disabled_at,
    });
    Ok(endpoints.collect())
}

/// Deletes an endpoint of the owner; its pending deliveries fail. Returns whether the endpoint existed. `actor` is the name for the
/// audit; the database's login if `None`.
///
/// # Errors
/// Postgres is away.
pub async fn delete_endpoint(
    db: &PgPool,
    owner: &str,
    endpoint: EndpointId,
    actor: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query_scalar!(
        r#"with gone as (
               delete from webhook_endpoints where endpoint_id = $1 and owner = $2 returning endpoint_id
           ), given_up as (
               update webhook_deliveries d set status = 'failed', next_attempt_at = null, leased_until = null, ended_at = now(),
                      log = d.log || jsonb_build_object('at', now(), 'error', 'the endpoint was deleted')
               from gone where d.endpoint_id = gone.endpoint_id and d.status = 'pending'
           )
           select case when exists (select from gone)
                       then audited('delete_webhook_endpoint', $3, jsonb_build_object('owner', $2::text), 'deleted', $4) = 'deleted'
                       else false end as "deleted!""#,
        endpoint.uuid(),
        owner,
        endpoint.to_string(),
        actor
    );
    deleted.fetch_one(db).await
}

/// Disables an endpoint; its pending deliveries fail.
///
/// # Errors
/// Postgres is away.
pub async fn disable_endpoint(db: &PgPool, endpoint: EndpointId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with disabled as (
             update webhook_endpoints set disabled_at = now() where endpoint_id = $1 and disabled_at is null returning endpoint_id
         )
         update webhook_deliveries d set status = 'failed', next_attempt_at = null, leased_until = null, ended_at = now(),
                log = d.log || jsonb_build_object('at', now(), 'error', 'the endpoint is gone: it answered 410')
         from disabled where d.endpoint_id = disabled.endpoint_id and d.status = 'pending'",
        endpoint.uuid()
    )
    .execute(db)
    .await?;
    Ok(())
}
