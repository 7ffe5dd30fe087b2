use sqlx::{PgExecutor, PgPool};

use super::{Cursor, Event, EventType, Subject};

/// Some events in the order of the feed, and where the next page begins.
#[derive(Debug, Clone)]
pub struct EventPage {
    pub events: Vec<Event>,
    pub next: Cursor,
}

/// Up to `limit` events of `owner`'s jobs and batches after `after`; of all types if `types` is empty.
///
/// No event is skipped: one that is not on a page follows after that page's `next`, however late it was committed.
///
/// # Errors
/// Postgres is away.
pub async fn feed(
    db: impl PgExecutor<'_>,
    owner: &str,
    after: Cursor,
    types: &[EventType],
    limit: u16,
) -> Result<EventPage, sqlx::Error> {
    let types: Vec<_> = types
        .iter()
        .map(|event_type| event_type.as_str().to_owned())
        .collect();
    let rows = sqlx::query_file!(
        "src/events/feed.sql",
        owner,
        after.xact.to_string(),
        after.event_no,
        after.place,
        after.oldest(),
        &types,
        i64::from(limit),
    );
    let events = rows.fetch_all(db).await?.into_iter().map(|row| {
        let decode = |error| sqlx::Error::Decode(error);
        Ok(Event {
            cursor: Cursor {
                xact: row.xact.parse().map_err(|error| decode(Box::new(error)))?,
                event_no: row.event_no,
                place: row.place,
                at: row.at.timestamp(),
            },
            event_type: row
                .event_type
                .parse()
                .map_err(|error| decode(Box::new(error)))?,
            at: row.at,
            subject: Subject::from_columns(row.job_id, row.batch_id)?,
        })
    });
    let events = events.collect::<Result<Vec<_>, sqlx::Error>>()?;
    let next = events.last().map_or(after, |event| event.cursor);
    Ok(EventPage { events, next })
}

/// The current end of the feed.
///
/// # Errors
/// Postgres is away.
pub async fn latest(db: &PgPool) -> Result<Cursor, sqlx::Error> {
    let row = sqlx::query!(
        r#"select (c.xact_offset + pg_snapshot_xmin(pg_current_snapshot())::text::bigint)::text as "xact!",
                  extract(epoch from now())::bigint as "at!"
           from event_cluster c"#
    );
    let row = row.fetch_one(db).await?;
    let xact = row.xact.parse();
    Ok(Cursor {
        xact: xact.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        at: row.at,
        ..Cursor::BEGINNING
    })
}

/// Drops the days whose events are all older than `kept_seconds`. Returns how many days.
///
/// # Errors
/// Postgres is away.
pub async fn prune_events(db: &PgPool, kept_seconds: f64) -> Result<i32, sqlx::Error> {
    let days = sqlx::query_scalar!(
        r#"select prune_events(make_interval(secs => $1)) as "days!""#,
        kept_seconds
    );
    days.fetch_one(db).await
}
