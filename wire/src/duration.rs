//! Durations in ISO 8601, as `retain_for` has them.

use chrono::TimeDelta;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes whole seconds: `PT43200S`.
#[allow(clippy::ref_option)] // the signature that serde asks for
pub(crate) fn serialize<S: Serializer>(
    duration: &Option<TimeDelta>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.collect_str(&format_args!("PT{}S", duration.num_seconds())),
        None => serializer.serialize_none(),
    }
}

/// Reads the days-and-time part of ISO 8601: `P7D`, `PT12H`, `P1DT30M`, `P2W`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<TimeDelta>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    parse(&text).map(Some).ok_or_else(|| {
        serde::de::Error::custom(
            "must be an ISO 8601 duration of weeks, days, hours, minutes, seconds: P7D",
        )
    })
}

fn parse(text: &str) -> Option<TimeDelta> {
    let (mut seconds, mut in_time, mut digits, mut parts) = (0_i64, false, String::new(), 0);
    for letter in text.strip_prefix('P')?.chars() {
        let unit = match (letter, in_time) {
            ('0'..='9', _) => {
                digits.push(letter);
                continue;
            }
            ('T', false) if digits.is_empty() => {
                in_time = true;
                continue;
            }
            ('W', false) => 604_800,
            ('D', false) => 86_400,
            ('H', true) => 3600,
            ('M', true) => 60,
            ('S', true) => 1,
            _ => return None,
        };
        let count: i64 = std::mem::take(&mut digits).parse().ok()?;
        seconds = seconds.checked_add(count.checked_mul(unit)?)?;
        parts += 1;
    }
    (digits.is_empty() && parts > 0)
        .then(|| TimeDelta::try_seconds(seconds))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_read_as_iso_8601() {
        let seconds = |text| parse(text).map(|delta| delta.num_seconds());
        assert_eq!(seconds("P7D"), Some(604_800));
        assert_eq!(seconds("P1DT30M"), Some(88_200));
        assert_eq!(seconds("P2W"), Some(1_209_600));
        for bad in [
            "",
            "P",
            "PT",
            "7D",
            "P7",
            "P1H",
            "PT1D",
            "P-1D",
            "P99999999999999999999D",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
