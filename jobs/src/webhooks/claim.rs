use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::{DeliveryId, EndpointId};
use crate::{
    Secret,
    events::{EventType, Subject},
};

/// What a process is sending already, to one host.
#[derive(Debug, Clone)]
pub struct HostLoad {
    pub host: String,
    pub sends: i32,
}

/// An event for one receiver, in the hands of a process that sends it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Stays the same however often it is sent.
    pub id: DeliveryId,
    pub lease_no: i32,
    pub owner: String,
    /// `None`: the job named this URL itself.
    pub endpoint: Option<EndpointId>,
    pub url: String,
    /// With its port, if the URL names one.
    pub host: String,
    pub event_type: EventType,
    pub at: DateTime<Utc>,
    pub subject: Subject,
    /// Attempts before this one.
    pub tries: i16,
    /// What signs it; empty if the owner has no secret yet.
    pub secrets: Vec<Secret>,
}

/// Leases up to `limit` deliveries that are due, for so many seconds; no more than `per_host` of a host, counting those
/// that this process is sending already.
///
/// # Errors
/// Postgres is away.
pub async fn claim(
    db: &PgPool,
    limit: i64,
    per_host: i32,
    busy: &[HostLoad],
    lease_seconds: f64,
) -> Result<Vec<Delivery>, sqlx::Error> {
    let hosts: Vec<_> = busy.iter().map(|one| one.host.clone()).collect();
    let sends: Vec<_> = busy.iter().map(|one| one.sends).collect();
    let rows = sqlx::query_file!(
        "src/webhooks/claim.sql",
        limit,
        per_host,
        &hosts,
        &sends,
        lease_seconds
    );
    let rows = rows.fetch_all(db).await?;
    let deliveries = rows.into_iter().map(|row| {
        let event_type = row.event_type.parse();
        let secrets = match row.endpoint_id {
            Some(_) => [row.endpoint_secret, None],
            None => [row.owner_secret, row.previous_secret],
        };
        Ok(Delivery {
            id: row.delivery_id.into(),
            lease_no: row.lease_no,
            owner: row.owner,
            endpoint: row.endpoint_id.map(EndpointId::from),
            url: row.url,
            host: row.host,
            event_type: event_type.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            at: row.at,
            subject: Subject::from_columns(row.job_id, row.batch_id)?,
            tries: row.tries,
            secrets: secrets.into_iter().flatten().map(Secret::new).collect(),
        })
    });
    deliveries.collect()
}
