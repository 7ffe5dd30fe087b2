use chrono::TimeDelta;
use jiff::{SpanRelativeTo, fmt::temporal::SpanParser};
use serde::{Deserialize, Deserializer};

/// Deserializes `retain_for`: an ISO 8601 duration of weeks, days, hours, minutes and seconds.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<TimeDelta>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    parse(&text).map(Some).ok_or_else(|| {
        serde::de::Error::custom(
            "must be an ISO 8601 duration of weeks, days, hours, minutes, seconds: P7D",
        )
    })
}

/// Years and months have no fixed length, so they are refused; so are signs and fractions of a second.
fn parse(text: &str) -> Option<TimeDelta> {
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
    let span = SpanParser::new().parse_span(text).ok()?;
    if !text.bytes().all(is_plain) || span.get_years() != 0 || span.get_months() != 0 {
        return None;
    }
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    TimeDelta::try_seconds(duration.as_secs())
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
            "P99999999999999999999D",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
