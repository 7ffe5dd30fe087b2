//! Times on the wire: RFC 3339 in UTC, always with six decimal digits, so that they sort as text.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer;

/// For `serialize_with`: chrono's own format has a varying number of digits.
pub fn micros<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// As [`micros`], for an optional time.
#[allow(clippy::ref_option)] // the signature that serde asks for
pub fn some_micros<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => micros(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use serde::Serialize;
    use serde_json::json;

    use super::{micros, some_micros};

    #[derive(Serialize)]
    struct Times {
        #[serde(serialize_with = "micros")]
        at: DateTime<Utc>,
        #[serde(serialize_with = "some_micros")]
        until: Option<DateTime<Utc>>,
    }

    fn times(at_ns: i64, until_ns: Option<i64>) -> serde_json::Value {
        serde_json::to_value(Times {
            at: DateTime::from_timestamp_nanos(at_ns),
            until: until_ns.map(DateTime::from_timestamp_nanos),
        })
        .expect("JSON-able")
    }

    const WHOLE_SECOND_NS: i64 = 1_764_132_000_000_000_000;

    #[test]
    fn every_time_has_six_digits() {
        assert_eq!(
            times(WHOLE_SECOND_NS, Some(WHOLE_SECOND_NS + 500_000_000)),
            json!({"at": "2025-11-26T04:40:00.000000Z", "until": "2025-11-26T04:40:00.500000Z"}),
        );
        assert_eq!(
            times(WHOLE_SECOND_NS + 123_456_789, None),
            json!({"at": "2025-11-26T04:40:00.123456Z", "until": null}),
        );
    }
}
