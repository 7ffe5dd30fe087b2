//! The W3C trace context of a request: `traceparent`.

use actix_web::HttpRequest;
use uuid::Uuid;

/// 2, 32, 16 and 2 hex digits, with hyphens between.
const TRACEPARENT_CHARS: usize = 55;

/// The `traceparent` of the request, or a new one.
pub(crate) fn traceparent(request: &HttpRequest) -> String {
    request
        .headers()
        .get("traceparent")
        .and_then(|value| parse_traceparent(value.to_str().ok()?))
        .map_or_else(new_traceparent, str::to_owned)
}

fn new_traceparent() -> String {
    let (trace, span) = (Uuid::new_v4().simple(), rand::random::<u64>() | 1);
    format!("00-{trace}-{span:016x}-01")
}

/// The trace id of a `traceparent`; `None` if the text is none.
pub(crate) fn trace_id(traceparent: &str) -> Option<&str> {
    parse_traceparent(traceparent)?.split('-').nth(1)
}

/// Version, trace, span and flags of a `traceparent`, without what later versions append; `None` if the text is none.
fn parse_traceparent(text: &str) -> Option<&str> {
    let (known, appended) = text.split_at_checked(TRACEPARENT_CHARS)?;
    let mut parts = known.split('-');
    let mut hex = |length: usize| {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let part = parts.next()?;
        (part.len() == length && part.bytes().all(is_hex)).then_some(part)
    };
    let (version, trace, span, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
    let may_append = version != "00" && appended.starts_with('-');
    let is_valid = version != "ff" && !is_zero(trace) && !is_zero(span);
    (is_valid && (appended.is_empty() || may_append)).then_some(known)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::{parse_traceparent, trace_id, traceparent};

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_a_real_traceparent_is_taken() {
        assert_eq!(parse_traceparent(GOOD), Some(GOOD));
        assert_eq!(trace_id(GOOD), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        for bad in [
            "",
            "00-4bf9-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\u{e9}",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-001",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_later_version_adds_is_left_out() {
        let later = GOOD.replacen("00", "cc", 1);
        for added in ["", "-", "-what-the"] {
            let sent = format!("{later}{added}");
            assert_eq!(parse_traceparent(&sent), Some(&*later), "{sent}");
        }
    }

    #[test]
    fn a_request_without_a_real_traceparent_gets_a_new_one() {
        let sent = |value: &str| {
            let request = TestRequest::default().insert_header(("traceparent", value));
            traceparent(&request.to_http_request())
        };
        assert_eq!(sent(GOOD), GOOD);
        let made = sent(&format!("{GOOD}-more"));
        assert_eq!(parse_traceparent(&made), Some(&*made));
        assert_ne!(trace_id(&made), trace_id(GOOD));
    }
}
