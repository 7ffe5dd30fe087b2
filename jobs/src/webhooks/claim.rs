use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::{DeliveryId, EndpointId};
use crate::{
    Secret,
    events::{EventType, Subject},
};

/// How many deliveries this process is sending to a host.
#[derive(Debug, Clone)]
pub struct HostLoad {
    pub host: String,
    pub sends: i32,
}

/// One event for one receiver, leased to a process that sends it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The id is the same in every attempt.
    pub id: DeliveryId,
    pub lease_no: i32,
    pub owner: String,
    /// `None`: the job has its own `webhook_url`.
    pub endpoint: Option<EndpointId>,
    pub url: String,
    /// Host of the URL, with the port if the URL has one.
    pub host: String,
    pub event_type: EventType,
    pub at: DateTime<Utc>,
    pub subject: Subject,
    /// Attempts before this one.
    pub tries: i16,
    /// Secrets that sign the delivery; empty if the owner has none yet.
    pub secrets: Vec<Secret>,
}

/// Leases up to `limit` due deliveries for `lease_seconds`, at most `per_host` for each host. The deliveries that this process
/// is sending already (`busy`) count.
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
    let hosts: Vec<_> = busy.iter().map(|load| load.host.clone()).collect();
    let sends: Vec<_> = busy.iter().map(|load| load.sends).collect();
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
