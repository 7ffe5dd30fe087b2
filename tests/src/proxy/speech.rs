//! What goes by, cut into pieces that mean something.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use crate::wire::Messages;

/// The language of a proxy's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Postgres,
    /// HTTP/1.1, one request after the other: each begins a piece of its own.
    Http,
}

/// Bytes that stay together.
#[derive(Debug)]
pub(super) struct Piece {
    pub bytes: Bytes,
    /// The statement, or the request line, that it makes the server act upon.
    pub said: Option<Arc<str>>,
    /// Whether an answer is over with it (Postgres), or begins with it (HTTP).
    pub answers: bool,
}

/// The client's side of one connection.
#[derive(Debug)]
pub(super) struct Requests {
    speaks: Protocol,
    pub messages: Messages,
    statements: HashMap<String, Arc<str>>,
    portals: HashMap<String, Arc<str>>,
}

/// The server's side.
#[derive(Debug)]
pub(super) struct Answers {
    speaks: Protocol,
    messages: Messages,
}

const METHODS: [&str; 5] = ["GET ", "PUT ", "POST ", "HEAD ", "DELETE "];

impl Requests {
    pub fn new(speaks: Protocol) -> Self {
        Self {
            speaks,
            messages: Messages::of_a_client(),
            statements: HashMap::new(),
            portals: HashMap::new(),
        }
    }

    pub fn is_http(&self) -> bool {
        self.speaks == Protocol::Http
    }

    pub fn read(&mut self, bytes: &[u8]) -> Vec<Piece> {
        match self.speaks {
            Protocol::Http => {
                let said = METHODS
                    .iter()
                    .any(|method| bytes.starts_with(method.as_bytes()));
                let line = || {
                    bytes
                        .split(|byte| *byte == b'\r')
                        .next()
                        .unwrap_or_default()
                };
                vec![Piece {
                    bytes: Bytes::copy_from_slice(bytes),
                    said: said.then(|| String::from_utf8_lossy(line()).into()),
                    answers: false,
                }]
            }
            Protocol::Postgres => {
                self.messages.push(bytes);
                self.pending()
            }
        }
    }

    /// What was read with the greeting, too.
    pub fn pending(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let Some(message) = self.messages.pop() {
            let mut said = None;
            if let Some(parse) = message.parse() {
                self.statements
                    .insert(parse.statement.to_owned(), parse.sql.into());
            } else if let Some(bind) = message.bind() {
                if let Some(sql) = self.statements.get(bind.statement) {
                    self.portals.insert(bind.portal.to_owned(), sql.clone());
                }
            } else if let Some(portal) = message.execute() {
                said = self.portals.get(portal).cloned();
            } else if let Some(sql) = message.query() {
                said = Some(sql.into());
            }
            pieces.push(Piece {
                bytes: message.bytes().clone(),
                said,
                answers: false,
            });
        }
        pieces
    }
}

impl Answers {
    pub fn new(speaks: Protocol) -> Self {
        Self {
            speaks,
            messages: Messages::of_the_server(),
        }
    }

    pub fn read(&mut self, bytes: &[u8]) -> Vec<Piece> {
        if self.speaks == Protocol::Http {
            return vec![Piece {
                bytes: Bytes::copy_from_slice(bytes),
                said: None,
                answers: bytes.starts_with(b"HTTP/1.1 ") && !bytes.starts_with(b"HTTP/1.1 1"),
            }];
        }
        self.messages.push(bytes);
        let messages = std::iter::from_fn(|| self.messages.pop());
        messages
            .map(|message| Piece {
                bytes: message.bytes().clone(),
                said: None,
                // ReadyForQuery: what the statement did is committed.
                answers: message.tag() == Some(b'Z'),
            })
            .collect()
    }
}
