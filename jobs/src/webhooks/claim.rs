use std::{collections::HashMap, hash::BuildHasher};

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use super::{DeliveryId, EndpointId};
use crate::{
    Secret,
    events::{EventType, Subject},
};

/// One owner's deliveries to one host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    pub owner: String,
    pub host: String,
}

/// Limits of one claim. Deliveries that the process is sending already count.
#[derive(Debug, Clone, Copy)]
pub struct ClaimLimits {
    /// Most deliveries to claim.
    pub deliveries: i64,
    /// Most sends at the same time for one owner.
    pub per_owner: i32,
    /// Most sends at the same time to one host. One owner leaves a quarter of them, rounded down, to other owners.
    pub per_host: i32,
    pub lease_seconds: f64,
}

/// Where the next claim begins to look for destinations; the beginning by default. A claim looks at 400 destinations, so it only matters if
/// there are more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanPosition {
    owner: String,
    host: String,
}

/// The result of a claim.
#[derive(Debug)]
pub struct DueDeliveries {
    pub deliveries: Vec<Delivery>,
    pub next: ScanPosition,
}

/// One event for one receiver, leased to a process that sends it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The id is the same in every attempt.
    pub id: DeliveryId,
    pub lease_no: i32,
    /// The owner, and the host of the URL, with the port if the URL has one.
    pub destination: Destination,
    /// `None`: the job has its own `webhook_url`.
    pub endpoint: Option<EndpointId>,
    pub url: String,
    pub event_type: EventType,
    pub at: DateTime<Utc>,
    pub subject: Subject,
    /// Attempts before this one.
    pub tries: i16,
    /// Secrets that sign the delivery; empty if the owner has none yet.
    pub secrets: Vec<Secret>,
}

/// Leases due deliveries in turn between the owners, and between the hosts of each owner.
///
/// `sending`: how many deliveries of each destination this process is sending. `from`: the position that the previous claim returned.
///
/// # Errors
/// Postgres is away.
pub async fn claim(
    db: impl PgExecutor<'_>,
    limits: &ClaimLimits,
    sending: &HashMap<&Destination, i32, impl BuildHasher>,
    from: &ScanPosition,
) -> Result<DueDeliveries, sqlx::Error> {
    let owners: Vec<_> = sending
        .keys()
        .map(|destination| destination.owner.clone())
        .collect();
    let hosts: Vec<_> = sending
        .keys()
        .map(|destination| destination.host.clone())
        .collect();
    let sends: Vec<_> = sending.values().copied().collect();
    let rows = sqlx::query_file!(
        "src/webhooks/claim.sql",
        limits.deliveries,
        limits.per_host,
        limits.per_owner,
        &owners,
        &hosts,
        &sends,
        limits.lease_seconds,
        from.owner,
        from.host,
    );
    // There is always a row, with the position alone if nothing was claimed.
    let rows = rows.fetch_all(db).await?;
    let mut due = DueDeliveries {
        deliveries: Vec::new(),
        next: ScanPosition::default(),
    };
    for row in rows {
        due.next = ScanPosition {
            owner: row.next_owner,
            host: row.next_host,
        };
        let Some(id) = row.delivery_id else { continue };
        let missing = || sqlx::Error::Decode("a claimed delivery lacks a column".into());
        let event_type = row.event_type.ok_or_else(missing)?.parse();
        let secrets = match row.endpoint_id {
            Some(_) => row.endpoint_secret.into_iter().collect(),
            None => [Vec::from_iter(row.owner_secret), row.previous_secrets].concat(),
        };
        due.deliveries.push(Delivery {
            id: id.into(),
            lease_no: row.lease_no.ok_or_else(missing)?,
            destination: Destination {
                owner: row.owner.ok_or_else(missing)?,
                host: row.host.ok_or_else(missing)?,
            },
            endpoint: row.endpoint_id.map(EndpointId::from),
            url: row.url.ok_or_else(missing)?,
            event_type: event_type.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            at: row.at.ok_or_else(missing)?,
            subject: Subject::from_columns(row.job_id, row.batch_id)?,
            tries: row.tries.ok_or_else(missing)?,
            secrets: secrets.into_iter().map(Secret::new).collect(),
        });
    }
    Ok(due)
}
