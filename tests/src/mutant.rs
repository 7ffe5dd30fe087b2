//! Removes a guard from a statement while a test runs, to see whether the test fails.
//!
//! The guards of the queue are words of its SQL. A proxy in front of Postgres replaces these words in the statements of the
//! real programs.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::wire::{Kind, Message, Messages};

/// A statement, and its mutated text without one of its guards.
#[derive(Debug, Clone)]
pub struct Mutation {
    statement: String,
    mutated: String,
    edits: Vec<(String, String)>,
}

impl Mutation {
    /// Replaces words of `statement`, at every occurrence. Line breaks do not matter.
    ///
    /// The mutated text must still use each parameter, with its type.
    pub fn of(statement: &str, edits: &[(&str, &str)]) -> Self {
        let statement = one_line(statement);
        let edits: Vec<_> = edits
            .iter()
            .map(|(from, to)| (one_line(from), one_line(to)))
            .collect();
        let mut mutated = statement.clone();
        for (from, to) in &edits {
            assert!(
                mutated.contains(from),
                "the statement has no such words any more: {from}\nin: {statement}"
            );
            mutated = mutated.replace(from, to);
        }
        Self {
            statement,
            mutated,
            edits,
        }
    }

    /// A mutation that looks for the statement and does not change it.
    #[must_use]
    pub fn without_edits(&self) -> Self {
        Self {
            mutated: self.statement.clone(),
            ..self.clone()
        }
    }

    /// The mutated text of a statement that is the sought one, or ends with it: `query_jobs!` puts its columns before it.
    fn apply(&self, sql: &str) -> Option<String> {
        let sql = one_line(sql);
        let columns = sql.strip_suffix(&self.statement)?;
        Some(format!("{columns}{}", self.mutated))
    }
}

impl std::fmt::Display for Mutation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (from, to) in &self.edits {
            write!(f, "`{to}` instead of `{from}`; ")?;
        }
        write!(f, "in {}", self.statement)
    }
}

/// The statement in a Rust source that begins with `beginning`. Quotes within the statement are escaped in the source.
pub fn statement_in(source: &str, beginning: &str) -> String {
    let at = source.find(beginning);
    let at = at.unwrap_or_else(|| panic!("no statement begins with {beginning:?} any more"));
    let mut statement = String::new();
    for part in source[at..].split('"') {
        statement.push_str(part.strip_suffix('\\').unwrap_or(part));
        if !part.ends_with('\\') {
            break;
        }
        statement.push('"');
    }
    statement
}

/// SQL that replaces words in a function of the database.
pub fn in_function(name: &str, from: &str, to: &str) -> String {
    format!(
        "do $mutant$
         declare whole text := pg_get_functiondef('{name}'::regproc);
         begin
             if position($f${from}$f$ in whole) = 0 then raise exception 'the guard is not there any more'; end if;
             execute replace(whole, $f${from}$f$, $f${to}$f$);
         end $mutant$"
    )
}

/// The SQL without comments and line breaks.
fn one_line(sql: &str) -> String {
    let lines = sql
        .lines()
        .map(|line| line.split("--").next().unwrap_or(""));
    let words = lines.flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

/// A proxy in front of Postgres that mutates the statements of its clients.
#[derive(Debug)]
pub struct MutatedServer {
    url: String,
    seen: Arc<Seen>,
}

/// What the proxy has seen.
#[derive(Debug)]
struct Seen {
    mutation: Mutation,
    prepared: AtomicU32,
    sql_errors: Mutex<Vec<String>>,
}

impl MutatedServer {
    /// Starts a proxy in front of the server of `DATABASE_URL`.
    pub async fn start(mutation: Mutation) -> Self {
        let mut url = reqwest::Url::parse(&crate::database::server()).unwrap();
        let host = url.host_str().unwrap().to_owned();
        let server = (host, url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(port)).unwrap();
        let seen = Arc::new(Seen {
            mutation,
            prepared: AtomicU32::new(0),
            sql_errors: Mutex::default(),
        });
        let watcher = seen.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, seen) = (server.clone(), watcher.clone());
                tokio::spawn(async move {
                    // If one side closes its connection, the other side is closed too. The program must handle that.
                    drop(relay(client, server, seen).await);
                });
            }
        });
        let url = url.into();
        Self { url, seen }
    }

    /// `DATABASE_URL` for the process under test.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How often a client prepared the statement.
    pub fn prepared(&self) -> u32 {
        self.seen.prepared.load(Relaxed)
    }

    /// Syntax errors of the server. A mutation with such an error proves nothing.
    pub fn sql_errors(&self) -> Vec<String> {
        self.seen.sql_errors.lock().unwrap().clone()
    }
}

impl Seen {
    fn mutate(&self, message: Message) -> Message {
        let mutated = message
            .parse()
            .and_then(|parse| self.mutation.apply(parse.sql));
        let Some(mutated) = mutated else {
            return message;
        };
        self.prepared.fetch_add(1, Relaxed);
        message.with_sql(&mutated)
    }

    fn record_error(&self, message: &Message) {
        // An `ErrorResponse` of class 42: wrong syntax, an unknown name, a wrong type.
        if message.tag() == Some(b'E') && field(message.body(), b'C').starts_with("42") {
            let error = field(message.body(), b'M');
            self.sql_errors.lock().unwrap().push(error);
        }
    }
}

/// One field of an `ErrorResponse`: each begins with its letter and ends with a zero byte.
fn field(body: &[u8], letter: u8) -> String {
    let mut fields = body.split(|byte| *byte == 0);
    let found = fields.find(|field| field.first() == Some(&letter));
    found.map_or_else(String::new, |field| {
        String::from_utf8_lossy(&field[1..]).into_owned()
    })
}

async fn relay(
    mut client: TcpStream,
    server: (String, u16),
    seen: Arc<Seen>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut messages = Messages::of_a_client();
    loop {
        let message = match messages.pop() {
            Some(message) => message,
            None if read(&mut client, &mut messages).await? => continue,
            None => return Ok(()),
        };
        match message.kind {
            // Refuses encryption: the proxy could not read encrypted statements.
            Kind::SslRequest | Kind::GssRequest => client.write_all(b"N").await?,
            _ => server.write_all(message.bytes()).await?,
        }
        if message.kind == Kind::Startup {
            break;
        }
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::try_join!(
        relay_statements(from_client, to_server, messages, &seen),
        relay_answers(from_server, to_client, &seen)
    )?;
    Ok(())
}

async fn relay_statements(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut messages: Messages,
    seen: &Seen,
) -> std::io::Result<()> {
    loop {
        let mut onward = Vec::new();
        while let Some(message) = messages.pop() {
            onward.extend_from_slice(seen.mutate(message).bytes());
        }
        to.write_all(&onward).await?;
        if !read(&mut from, &mut messages).await? {
            return to.shutdown().await;
        }
    }
}

async fn relay_answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    seen: &Seen,
) -> std::io::Result<()> {
    let mut messages = Messages::of_the_server();
    while read(&mut from, &mut messages).await? {
        let mut onward = Vec::new();
        while let Some(message) = messages.pop() {
            seen.record_error(&message);
            onward.extend_from_slice(message.bytes());
        }
        to.write_all(&onward).await?;
    }
    to.shutdown().await
}

/// Reads the next bytes. False at the end of the stream.
async fn read(
    from: &mut (impl AsyncReadExt + Unpin),
    messages: &mut Messages,
) -> std::io::Result<bool> {
    let mut piece = vec![0; 64 * 1024];
    let length = from.read(&mut piece).await?;
    messages.push(&piece[..length]);
    Ok(length > 0)
}
