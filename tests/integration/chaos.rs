//! The fault harness: its network does what it says, and under it nothing is lost.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tests::{
    given,
    proxy::{On, Protocol, Proxy, Then, action},
};
use tokio::{process::Command, time::timeout};

/// By the seed that CI has always used; `just chaos` runs others, and longer.
#[tokio::test]
async fn nothing_is_lost_in_two_minutes_of_faults() {
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    chaos
        .args(["--seed", "1", "--minutes", "2"])
        .kill_on_drop(true);
    let status = chaos.status().await.unwrap();
    assert!(status.success(), "see above: {status}");
}

/// A database of the test's own with a table, and a proxy in front of its server.
async fn behind_a_proxy() -> (given::Database, Proxy, String) {
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

async fn say(db: &mut PgConnection, word: &str) -> Result<(), sqlx::Error> {
    let said = sqlx::query("insert into said values ($1)").bind(word);
    said.execute(db).await.map(drop)
}

async fn words(db: &given::Database) -> Vec<String> {
    let words = sqlx::query_scalar("select word from said order by word");
    words.fetch_all(&**db).await.unwrap()
}

#[tokio::test]
async fn a_statement_whose_answer_is_cut_off_was_executed() {
    let (db, proxy, url) = behind_a_proxy().await;
    let mut client = PgConnection::connect(&url).await.unwrap();
    say(&mut client, "first").await.unwrap();
    // Prepared by now: the statement comes by its name only.
    let met = proxy.arm(
        On::Answered("insert into said"),
        action(|| async { Then::Cut }),
    );
    say(&mut client, "second").await.unwrap_err();
    met.await.unwrap();
    assert_eq!(words(&db).await, ["first", "second"]);
}

#[tokio::test]
async fn a_statement_that_is_cut_off_before_the_server_was_not_executed() {
    let (db, proxy, url) = behind_a_proxy().await;
    let mut client = PgConnection::connect(&url).await.unwrap();
    let _met = proxy.arm(
        On::Asked("insert into said"),
        action(|| async { Then::Cut }),
    );
    say(&mut client, "first").await.unwrap_err();
    let mut client = PgConnection::connect(&url).await.unwrap();
    say(&mut client, "second").await.unwrap();
    assert_eq!(words(&db).await, ["second"]);
}

#[tokio::test]
async fn a_half_open_connection_hears_nothing_and_a_new_one_is_not_concerned() {
    let (db, proxy, url) = behind_a_proxy().await;
    let mut old = PgConnection::connect(&url).await.unwrap();
    assert_eq!(proxy.make_half_open(), 1);
    let silence = timeout(Duration::from_millis(300), say(&mut old, "never")).await;
    assert!(silence.is_err(), "{silence:?}");
    let mut new = PgConnection::connect(&url).await.unwrap();
    say(&mut new, "now").await.unwrap();
    assert_eq!(words(&db).await, ["now"]);
}

#[tokio::test]
async fn only_connections_that_listen_are_cut_as_listeners() {
    let (_db, proxy, url) = behind_a_proxy().await;
    let mut deaf = PgConnection::connect(&url).await.unwrap();
    let mut listener = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("LISTEN news")
        .execute(&mut listener)
        .await
        .unwrap();
    assert_eq!(proxy.cut_listeners(), 1);
    say(&mut listener, "lost").await.unwrap_err();
    say(&mut deaf, "kept").await.unwrap();
}
