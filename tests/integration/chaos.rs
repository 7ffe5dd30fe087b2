//! The fault harness: no job is lost under its faults, and its proxy makes the faults that a test asks for.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tests::{
    given,
    proxy::{On, Protocol, Proxy, Then, action},
};
use tokio::{process::Command, time::timeout};

/// Runs seed 1, as CI does. `just chaos` runs other seeds, for longer.
#[tokio::test]
async fn nothing_is_lost_in_two_minutes_of_faults() {
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    chaos
        .args(["--seed", "1", "--minutes", "2"])
        .kill_on_drop(true);
    let status = chaos.status().await.unwrap();
    assert!(status.success(), "the output above says why: {status}");
}

/// Creates a database with one table and starts a proxy to its server; the URL leads through the proxy.
async fn start_database_behind_a_proxy() -> (given::Database, Proxy, String) {
    let db = given::database().await;
    sqlx::raw_sql("create table said (word text)")
        .execute(&*db)
        .await
        .unwrap();
    let mut url = reqwest::Url::parse(db.url()).unwrap();
    let proxy = Proxy::start(Protocol::Postgres, url.port().unwrap()).await;
    url.set_port(Some(proxy.port())).unwrap();
    (db, proxy, url.into())
}

async fn insert_word(db: &mut PgConnection, word: &str) -> Result<(), sqlx::Error> {
    let said = sqlx::query("insert into said values ($1)").bind(word);
    said.execute(db).await.map(drop)
}

async fn read_words(db: &given::Database) -> Vec<String> {
    let words = sqlx::query_scalar("select word from said order by word");
    words.fetch_all(&**db).await.unwrap()
}

#[tokio::test]
async fn a_statement_whose_response_is_cut_off_is_executed() {
    let (db, proxy, url) = start_database_behind_a_proxy().await;
    let mut client = PgConnection::connect(&url).await.unwrap();
    insert_word(&mut client, "first").await.unwrap();
    // The statement is prepared by now: the client sends only its name, without SQL.
    let met = proxy.arm(
        On::Answered("insert into said"),
        action(|| async { Then::Cut }),
    );
    insert_word(&mut client, "second").await.unwrap_err();
    met.await.unwrap();
    assert_eq!(read_words(&db).await, ["first", "second"]);
}

#[tokio::test]
async fn a_statement_cut_off_before_the_server_is_not_executed() {
    let (db, proxy, url) = start_database_behind_a_proxy().await;
    let mut client = PgConnection::connect(&url).await.unwrap();
    let _met = proxy.arm(
        On::Asked("insert into said"),
        action(|| async { Then::Cut }),
    );
    insert_word(&mut client, "first").await.unwrap_err();
    let mut client = PgConnection::connect(&url).await.unwrap();
    insert_word(&mut client, "second").await.unwrap();
    assert_eq!(read_words(&db).await, ["second"]);
}

#[tokio::test]
async fn a_half_open_connection_gets_no_response_and_a_new_connection_works() {
    let (db, proxy, url) = start_database_behind_a_proxy().await;
    let mut old = PgConnection::connect(&url).await.unwrap();
    assert_eq!(proxy.make_half_open(), 1);
    let silence = timeout(Duration::from_millis(300), insert_word(&mut old, "never")).await;
    assert!(silence.is_err(), "{silence:?}");
    let mut new = PgConnection::connect(&url).await.unwrap();
    insert_word(&mut new, "now").await.unwrap();
    assert_eq!(read_words(&db).await, ["now"]);
}

#[tokio::test]
async fn cut_listeners_cuts_only_connections_that_listen() {
    let (_db, proxy, url) = start_database_behind_a_proxy().await;
    let mut other = PgConnection::connect(&url).await.unwrap();
    let mut listener = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("LISTEN news")
        .execute(&mut listener)
        .await
        .unwrap();
    assert_eq!(proxy.cut_listeners(), 1);
    insert_word(&mut listener, "lost").await.unwrap_err();
    insert_word(&mut other, "kept").await.unwrap();
}
