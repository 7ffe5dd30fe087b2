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

/// The units in their order: letter, whether it follows `T`, seconds, largest count.
const UNITS: [(char, bool, i64, i64); 5] = [
    ('W', false, 604_800, 1_043_497),
    ('D', false, 86_400, 7_304_484),
    ('H', true, 3600, 175_307_616),
    ('M', true, 60, 10_518_456_960),
    ('S', true, 1, 631_107_417_600),
];

/// Years and months have no fixed length, so they are refused; so are signs and fractions of a second.
fn parse(text: &str) -> Option<TimeDelta> {
    let text = text.strip_prefix('P')?;
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    if time.map_or(date.is_empty(), str::is_empty) {
        return None;
    }
    let seconds = parse_units(date, false)? + parse_units(time.unwrap_or_default(), true)?;
    TimeDelta::try_seconds(seconds)
}

/// Seconds of `1W2D`, or of `3H4M5S` behind the `T`. Each unit may come once, in the order of [`UNITS`].
fn parse_units(mut text: &str, is_time: bool) -> Option<i64> {
    let mut seconds = 0;
    let mut units = UNITS
        .iter()
        .filter(|(_, follows_t, ..)| *follows_t == is_time);
    while !text.is_empty() {
        let end = text.find(|letter: char| !letter.is_ascii_digit())?;
        let (count, rest) = text.split_at(end);
        let letter = rest.chars().next()?;
        let (_, _, unit_seconds, count_max) = units.find(|(unit, ..)| *unit == letter)?;
        let count: i64 = count.parse().ok().filter(|count| count <= count_max)?;
        seconds += count * unit_seconds;
        text = &rest[letter.len_utf8()..];
    }
    Some(seconds)
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
        assert_eq!(seconds("P1W2DT3H4M5S"), Some(788_645));
        assert_eq!(seconds("PT0S"), Some(0));
        for bad in [
            "",
            "P",
            "PT",
            "7D",
            "P7",
            "P1H",
            "PT1D",
            "P-1D",
            "-P1D",
            "p7d",
            "7 days",
            "P1Y",
            "P1M",
            "PT1.5S",
            "P1DT",
            "P1D1W",
            "P1D1D",
            "PT1S1H",
            "PT5",
            "P1\u{e9}",
            "P99999999999999999999D",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
