use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};

/// A place in the feed: right after the event with this id. `evt_0-0-0-0` is the beginning. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Id of the transaction, plus an offset that grows when the database is restored into another cluster. Events are served in this order, once no transaction with a smaller id can commit any more.
    pub(super) xact: u64,
    pub(super) event_no: i64,
    /// One row may hold events of many jobs: the job's number in the row, from 1.
    pub(super) place: i64,
    /// Time of the event in seconds since 1970. Partitions of earlier days are not read.
    pub(super) at: i64,
}

#[derive(Debug, thiserror::Error)]
#[error("not an event's id")]
pub struct NotACursor;

impl Cursor {
    pub const BEGINNING: Self = Self {
        xact: 0,
        event_no: 0,
        place: 0,
        at: 0,
    };

    /// No later event in the feed is older than this. A row's time is read before its transaction gets an id; one day is
    /// left for transactions that take long.
    pub(super) fn oldest(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.at.saturating_sub(86_400), 0).unwrap_or_default()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            xact,
            event_no,
            place,
            at,
        } = self;
        write!(f, "evt_{xact}-{event_no}-{place}-{at}")
    }
}

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        fn number<T: FromStr>(text: Option<&str>) -> Result<T, NotACursor> {
            text.and_then(|text| text.parse().ok()).ok_or(NotACursor)
        }
        let mut parts = text.strip_prefix("evt_").ok_or(NotACursor)?.split('-');
        let cursor = Self {
            xact: number(parts.next())?,
            event_no: number(parts.next())?,
            place: number(parts.next())?,
            at: number(parts.next())?,
        };
        parts.next().map_or(Ok(cursor), |_| Err(NotACursor))
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn a_cursor_survives_the_wire_and_nothing_else_is_one() {
        let id = "evt_735-42-3-1764132000";
        let cursor: Cursor = id.parse().expect("one of ours");
        assert_eq!(cursor.to_string(), id);
        for bad in [
            "",
            "evt_",
            "735-42-3-1",
            "evt_735-42-3",
            "evt_735-42-3-1-1",
            "evt_a-1-1-1",
            "evt_-1-1-1-1",
            "evt_99999999999999999999-1-1-1",
        ] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
