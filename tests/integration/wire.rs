//! How the test proxy parses the Postgres protocol.

use tests::wire::{Bind, Kind, Message, Messages, Parse};

fn tagged_message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

fn untagged_message(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap();
    let (length, code) = (length.to_be_bytes(), code.to_be_bytes());
    [length.as_slice(), code.as_slice(), body].concat()
}

fn startup_message() -> Vec<u8> {
    untagged_message(0x0003_0000, b"user\0alice\0\0")
}

/// The messages of a client that asks for TLS, then prepares one statement and runs it.
fn client_messages() -> Vec<Vec<u8>> {
    vec![
        untagged_message(80_877_104, b""),
        untagged_message(80_877_103, b""),
        startup_message(),
        tagged_message(b'p', b"secret\0"),
        tagged_message(b'P', b"sqlx_s_1\0select $1 + 1\0\0\x01\0\0\0\x17"),
        tagged_message(b'B', b"door\0sqlx_s_1\0\0\0\0\0\0\0"),
        tagged_message(b'E', b"door\0\0\0\0\0"),
        tagged_message(b'S', b""),
        tagged_message(b'Q', b"rollback\0"),
    ]
}

fn pop_all(messages: &mut Messages) -> Vec<Message> {
    std::iter::from_fn(|| messages.pop()).collect()
}

fn parse_one(bytes: &[u8]) -> Message {
    let mut messages = Messages::of_the_server();
    messages.push(bytes);
    messages.pop().unwrap()
}

#[test]
fn messages_do_not_depend_on_how_the_network_splits_the_stream() {
    let sent = client_messages();
    let stream = sent.concat();
    for piece_bytes in [1, 2, 3, 7, stream.len()] {
        let mut messages = Messages::of_a_client();
        let mut received = Vec::new();
        for piece in stream.chunks(piece_bytes) {
            messages.push(piece);
            received.extend(pop_all(&mut messages));
        }
        let bytes: Vec<_> = received.iter().map(|one| one.bytes().to_vec()).collect();
        assert_eq!(bytes, sent, "in pieces of {piece_bytes}");
        let kinds: Vec<_> = received.iter().map(|one| one.kind).collect();
        let tags = b"pPBESQ".map(Kind::Tagged);
        assert_eq!(
            kinds[..3],
            [Kind::GssRequest, Kind::SslRequest, Kind::Startup]
        );
        assert_eq!(kinds[3..], tags);
    }
}

#[test]
fn a_cancel_request_is_one_message() {
    let mut messages = Messages::of_a_client();
    messages.push(&untagged_message(80_877_102, b"\0\0\0\x07\0\0\0\x09"));
    assert_eq!(messages.pop().unwrap().kind, Kind::Cancel);
    assert_eq!(messages.pop(), None);
}

#[test]
fn statements_and_portals_are_read_by_name() {
    let mut messages = Messages::of_a_client();
    messages.push(&client_messages().concat());
    let all = pop_all(&mut messages);
    let parse = Parse {
        statement: "sqlx_s_1",
        sql: "select $1 + 1",
    };
    let bind = Bind {
        portal: "door",
        statement: "sqlx_s_1",
    };
    assert_eq!(all[4].parse(), Some(parse));
    assert_eq!(all[5].bind(), Some(bind));
    assert_eq!(all[6].execute(), Some("door"));
    assert_eq!(all[8].query(), Some("rollback"));
    assert_eq!(all[7].body(), b"");
    assert_eq!(
        (all[2].tag(), all[2].parse(), all[7].query()),
        (None, None, None)
    );
}

#[test]
fn with_sql_keeps_the_statement_name_and_the_parameter_types() {
    let before = parse_one(&client_messages()[4]);
    let after = before.with_sql("select $1 - 1000");
    let sent = tagged_message(b'P', b"sqlx_s_1\0select $1 - 1000\0\0\x01\0\0\0\x17");
    assert_eq!(after.bytes(), &sent);
    assert_eq!(after.with_sql("select $1 + 1"), before);
}

#[test]
#[should_panic(expected = "not the Postgres protocol")]
fn bytes_of_another_protocol_cause_a_panic() {
    let mut messages = Messages::of_a_client();
    messages.push(b"GET / HTTP/1.1\r\n\r\n");
    messages.pop(); // the proxy reads these bytes as a length of more than a gigabyte
}
