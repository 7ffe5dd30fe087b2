//! Parses the Postgres protocol into messages, without I/O.
//!
//! For proxies between a program and its server. A proxy must refuse TLS: it cannot read encrypted messages.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const STARTUP: u32 = 0x0003_0000;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// Limit of the protocol.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
pub struct Messages {
    unread: BytesMut,
    started: bool,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    whole: Bytes,
}

/// The first byte of a message; the messages before a session have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asks for TLS; answered with one byte that is no message.
    SslRequest,
    /// Asks for encryption by GSSAPI; answered with one byte that is no message.
    GssRequest,
    /// Cancels the statement of another connection. No message and no answer follows.
    Cancel,
    Startup,
    Tagged(u8),
}

/// `Parse`: prepares a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Empty for the unnamed statement.
    pub statement: &'a str,
    pub sql: &'a str,
}

/// `Bind`: gives a prepared statement its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Empty for the unnamed portal.
    pub portal: &'a str,
    pub statement: &'a str,
}

impl Messages {
    /// The messages of a client, from the first byte of a connection.
    pub fn of_a_client() -> Self {
        Self::default()
    }

    /// The messages of a server, after its answers to [`Kind::SslRequest`] and [`Kind::GssRequest`]. All have a tag.
    pub fn of_the_server() -> Self {
        Self {
            unread: BytesMut::new(),
            started: true,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// The next complete message.
    pub fn pop(&mut self) -> Option<Message> {
        let tag_bytes = usize::from(self.started);
        let mut head = self.unread.get(tag_bytes..)?;
        let length = head.try_get_u32().ok()? as usize;
        let possible = 4..MESSAGE_BYTES_MAX;
        assert!(
            possible.contains(&length),
            "this is not the Postgres protocol: a message of {length} bytes"
        );
        if self.unread.len() < tag_bytes + length {
            return None;
        }
        let whole = self.unread.split_to(tag_bytes + length).freeze();
        let kind = if self.started {
            Kind::Tagged(whole[0])
        } else {
            untagged(&whole[4..])
        };
        self.started |= kind == Kind::Startup;
        Some(Message { kind, whole })
    }
}

fn untagged(mut body: &[u8]) -> Kind {
    match body.try_get_u32() {
        Ok(SSL_REQUEST) => Kind::SslRequest,
        Ok(GSS_REQUEST) => Kind::GssRequest,
        Ok(CANCEL_REQUEST) => Kind::Cancel,
        Ok(version) if version & 0xffff_0000 == STARTUP => Kind::Startup,
        other => panic!("this is not the Postgres protocol: it begins with {other:?}"),
    }
}

impl Message {
    /// The bytes of the message on the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.whole
    }

    pub fn tag(&self) -> Option<u8> {
        match self.kind {
            Kind::Tagged(tag) => Some(tag),
            _ => None,
        }
    }

    /// The message without its tag and length.
    pub fn body(&self) -> &[u8] {
        &self.whole[4 + usize::from(self.tag().is_some())..]
    }

    pub fn parse(&self) -> Option<Parse<'_>> {
        let mut body = self.tagged(b'P')?;
        let (statement, sql) = (text(&mut body)?, text(&mut body)?);
        Some(Parse { statement, sql })
    }

    pub fn bind(&self) -> Option<Bind<'_>> {
        let mut body = self.tagged(b'B')?;
        let (portal, statement) = (text(&mut body)?, text(&mut body)?);
        Some(Bind { portal, statement })
    }

    /// The portal that an `Execute` runs.
    pub fn execute(&self) -> Option<&str> {
        text(&mut self.tagged(b'E')?)
    }

    /// The statements of a simple query.
    pub fn query(&self) -> Option<&str> {
        text(&mut self.tagged(b'Q')?)
    }

    /// This `Parse` with other SQL. The name and the parameter types stay.
    #[must_use]
    pub fn with_sql(&self, sql: &str) -> Self {
        let parse = self.parse().expect("only a Parse has SQL to be replaced");
        let types = &self.body()[parse.statement.len() + parse.sql.len() + 2..];
        let mut body = BytesMut::new();
        body.put_slice(parse.statement.as_bytes());
        body.put_u8(0);
        body.put_slice(sql.as_bytes());
        body.put_u8(0);
        body.put_slice(types);
        let mut whole = BytesMut::with_capacity(5 + body.len());
        whole.put_u8(b'P');
        whole.put_u32(4 + u32::try_from(body.len()).expect("a statement is shorter than 4 GB"));
        whole.put(body);
        Self {
            kind: self.kind,
            whole: whole.freeze(),
        }
    }

    fn tagged(&self, tag: u8) -> Option<&[u8]> {
        (self.tag() == Some(tag)).then(|| self.body())
    }
}

/// Takes the text before the next zero byte, and the zero byte, from `body`.
fn text<'a>(body: &mut &'a [u8]) -> Option<&'a str> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let text = std::str::from_utf8(&body[..end]).ok()?;
    *body = &body[end + 1..];
    Some(text)
}
