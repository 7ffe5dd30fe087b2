//! What a proxy reads of the Postgres protocol.

use tests::wire::{Bind, Kind, Message, Messages, Parse};

fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

fn untagged(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap();
    let (length, code) = (length.to_be_bytes(), code.to_be_bytes());
    [length.as_slice(), code.as_slice(), body].concat()
}

fn startup() -> Vec<u8> {
    untagged(0x0003_0000, b"user\0alice\0\0")
}

/// Of a client that asked for TLS first, prepares one statement and runs it.
fn conversation() -> Vec<Vec<u8>> {
    vec![
        untagged(80_877_104, b""),
        untagged(80_877_103, b""),
        startup(),
        tagged(b'p', b"secret\0"),
        tagged(b'P', b"sqlx_s_1\0select $1 + 1\0\0\x01\0\0\0\x17"),
        tagged(b'B', b"door\0sqlx_s_1\0\0\0\0\0\0\0"),
        tagged(b'E', b"door\0\0\0\0\0"),
        tagged(b'S', b""),
        tagged(b'Q', b"rollback\0"),
    ]
}

fn read(messages: &mut Messages) -> Vec<Message> {
    std::iter::from_fn(|| messages.pop()).collect()
}

fn parsed(bytes: &[u8]) -> Message {
    let mut messages = Messages::of_the_server();
    messages.push(bytes);
    messages.pop().unwrap()
}

#[test]
fn messages_are_the_same_however_the_network_cuts_them() {
    let sent = conversation();
    let stream = sent.concat();
    for piece_bytes in [1, 2, 3, 7, stream.len()] {
        let mut messages = Messages::of_a_client();
        let mut received = Vec::new();
        for piece in stream.chunks(piece_bytes) {
            messages.push(piece);
            received.extend(read(&mut messages));
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
fn a_client_that_cancels_a_statement_sends_nothing_else() {
    let mut messages = Messages::of_a_client();
    messages.push(&untagged(80_877_102, b"\0\0\0\x07\0\0\0\x09"));
    assert_eq!(messages.pop().unwrap().kind, Kind::Cancel);
    assert_eq!(messages.pop(), None);
}

#[test]
fn statements_and_portals_are_told_by_name() {
    let mut messages = Messages::of_a_client();
    messages.push(&conversation().concat());
    let all = read(&mut messages);
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
fn another_text_leaves_name_and_parameter_types() {
    let before = parsed(&conversation()[4]);
    let after = before.with_sql("select $1 - 1000");
    let sent = tagged(b'P', b"sqlx_s_1\0select $1 - 1000\0\0\x01\0\0\0\x17");
    assert_eq!(after.bytes(), &sent);
    assert_eq!(after.with_sql("select $1 + 1"), before);
}

#[test]
#[should_panic(expected = "not the Postgres protocol")]
fn another_protocol_is_no_conversation() {
    let mut messages = Messages::of_a_client();
    messages.push(b"GET / HTTP/1.1\r\n\r\n");
    messages.pop(); // read as a length, it is more than a gigabyte
}
