use super::UpgradeOffers;

/// What goes on when the bytes of a connection come in pieces of this size.
fn passed_on(sent: &[u8], piece: usize) -> Vec<u8> {
    let (mut offers, mut passed, mut held) = (UpgradeOffers::default(), Vec::new(), Vec::new());
    for piece in sent.chunks(piece) {
        held.extend_from_slice(piece);
        let length = offers.ignore(&mut held);
        passed.extend(held.drain(..length));
    }
    passed.extend(held);
    passed
}

#[track_caller]
fn assert_passed_on(sent: &str, expected: &str) {
    for piece in [1, 2, 3, 7, 64, 100_000] {
        let passed = passed_on(sent.as_bytes(), piece);
        let passed = String::from_utf8(passed).expect("text");
        assert_eq!(passed, expected, "in pieces of {piece}");
    }
}

const OFFER: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUPGRADE: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
const IGNORED: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-offer, HTTP2-Settings\r\nx-offer: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";

#[test]
fn an_offer_is_made_unreadable_in_each_request_of_a_connection() {
    assert_passed_on(OFFER, IGNORED);
    assert_passed_on(&OFFER.repeat(3), &IGNORED.repeat(3));
    let keeps =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive,upgrade\r\nUpgrade: websocket\r\n\r\n";
    let kept =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive,x-offer\r\nx-offer: websocket\r\n\r\n";
    assert_passed_on(keeps, kept);
}

#[test]
fn a_body_passes_unchanged_and_the_next_request_is_found_behind_it() {
    let with_length = |body: &str| {
        let length = body.len();
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let body = with_length(OFFER);
    assert_passed_on(&format!("{body}{OFFER}"), &format!("{body}{IGNORED}"));
    let empty = with_length("");
    assert_passed_on(&format!("{empty}{OFFER}"), &format!("{empty}{IGNORED}"));
    for end in ["0\r\n\r\n", "0\r\nX-Trailer: Upgrade\r\n\r\n"] {
        let chunked = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n{:x};ext=1\r\n{OFFER}\r\n3\r\nabc\r\n{end}",
            OFFER.len()
        );
        assert_passed_on(&format!("{chunked}{OFFER}"), &format!("{chunked}{IGNORED}"));
    }
}

#[test]
fn nothing_is_changed_behind_what_the_server_will_refuse() {
    for refused in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\0\0\0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let sent = format!("{refused}{OFFER}");
        assert_passed_on(&sent, &sent);
    }
}

#[test]
fn a_head_without_an_end_is_not_held_back_for_ever() {
    let long = format!("GET / HTTP/1.1\r\nHost: {}", "a".repeat(200_000));
    let (mut offers, mut bytes) = (UpgradeOffers::default(), long.into_bytes());
    assert_eq!(offers.ignore(&mut bytes), bytes.len());
}

#[test]
fn requests_without_an_offer_pass_unchanged() {
    let plain =
        "GET /upgrade HTTP/1.1\r\nHost: upgrade\r\nX-Upgrade: upgrade\r\nConnection: close\r\n\r\n";
    assert_passed_on(plain, plain);
    assert_passed_on(
        &format!("\r\n{plain}{OFFER}"),
        &format!("\r\n{plain}{IGNORED}"),
    );
}
