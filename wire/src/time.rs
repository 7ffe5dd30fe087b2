use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer;

/// RFC 3339 in UTC, always with six digits behind the point, so that times sort as text.
pub fn rfc3339(time: &DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// For `serialize_with`: serde's own form has as many digits as the time happens to need.
pub fn micros<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(time))
}

/// [`micros`] for a time that may be missing.
#[allow(clippy::ref_option)] // the signature that serde asks for
pub(crate) fn some_micros<S: Serializer>(
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

    #[test]
    fn every_time_has_six_digits() {
        const WHOLE_SECOND_NS: i64 = 1_764_132_000_000_000_000;
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
