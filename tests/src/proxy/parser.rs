//! Cuts the byte streams of a connection into messages.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use crate::wire::Messages;

/// The protocol of a proxy's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Postgres,
    /// HTTP/1.1, one request after the other. Each request must begin a new piece.
    Http,
}

/// Bytes that the proxy forwards or drops together.
#[derive(Debug)]
pub(super) struct Piece {
    pub bytes: Bytes,
    /// The statement or the request line that the server executes after this piece.
    pub command: Option<Arc<str>>,
    /// Whether an answer ends (Postgres) or begins (HTTP) with this piece.
    pub answers: bool,
}

/// Parser of the client's side of one connection.
#[derive(Debug)]
pub(super) struct Requests {
    protocol: Protocol,
    pub messages: Messages,
    statements: HashMap<String, Arc<str>>,
    portals: HashMap<String, Arc<str>>,
}

/// Parser of the server's side of one connection.
#[derive(Debug)]
pub(super) struct Answers {
    protocol: Protocol,
    messages: Messages,
}

const METHODS: [&str; 5] = ["GET ", "PUT ", "POST ", "HEAD ", "DELETE "];

impl Requests {
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            messages: Messages::of_a_client(),
            statements: HashMap::new(),
            portals: HashMap::new(),
        }
    }

    pub fn is_http(&self) -> bool {
        self.protocol == Protocol::Http
    }

    pub fn read(&mut self, bytes: &[u8]) -> Vec<Piece> {
        match self.protocol {
            Protocol::Http => {
                let is_request = METHODS
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
                    command: is_request.then(|| String::from_utf8_lossy(line()).into()),
                    answers: false,
                }]
            }
            Protocol::Postgres => {
                self.messages.push(bytes);
                self.pending()
            }
        }
    }

    /// The pieces that are complete, also those read with the startup message.
    pub fn pending(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let Some(message) = self.messages.pop() {
            let mut command = None;
            if let Some(parse) = message.parse() {
                self.statements
                    .insert(parse.statement.to_owned(), parse.sql.into());
            } else if let Some(bind) = message.bind() {
                if let Some(sql) = self.statements.get(bind.statement) {
                    self.portals.insert(bind.portal.to_owned(), sql.clone());
                }
            } else if let Some(portal) = message.execute() {
                command = self.portals.get(portal).cloned();
            } else if let Some(sql) = message.query() {
                command = Some(sql.into());
            }
            pieces.push(Piece {
                bytes: message.bytes().clone(),
                command,
                answers: false,
            });
        }
        pieces
    }
}

impl Answers {
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            messages: Messages::of_the_server(),
        }
    }

    pub fn read(&mut self, bytes: &[u8]) -> Vec<Piece> {
        if self.protocol == Protocol::Http {
            return vec![Piece {
                bytes: Bytes::copy_from_slice(bytes),
                command: None,
                answers: bytes.starts_with(b"HTTP/1.1 ") && !bytes.starts_with(b"HTTP/1.1 1"),
            }];
        }
        self.messages.push(bytes);
        let messages = std::iter::from_fn(|| self.messages.pop());
        messages
            .map(|message| Piece {
                bytes: message.bytes().clone(),
                command: None,
                // ReadyForQuery: what the statement did is committed.
                answers: message.tag() == Some(b'Z'),
            })
            .collect()
    }
}
