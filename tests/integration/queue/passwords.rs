//! A password that is rotated under a running process.

use std::{fs, path::Path, time::Duration};

use jobs::{
    Secret,
    db::{Db, DbConfig, NotReady, Trouble},
};
use sqlx::AssertSqlSafe;
use tests::{eventually, given, servers};

/// How soon a change is noticed.
const NOTICED_MAX: Duration = Duration::from_secs(15);

/// A login of this test, removed at its end.
struct Login<'a> {
    db: &'a given::Database,
    name: String,
}

impl<'a> Login<'a> {
    async fn create(db: &'a given::Database, password: &str) -> Self {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let login = Self { db, name };
        login
            .run("create role NAME login superuser", password)
            .await;
        login
    }

    async fn run(&self, statement: &str, password: &str) {
        let statement = statement.replace("NAME", &self.name);
        let statement = format!("{statement} password '{password}'");
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&**self.db)
            .await
            .unwrap();
    }

    async fn set_password(&self, password: &str) {
        self.run("alter role NAME", password).await;
    }

    fn config(&self, password: Option<&str>, file: Option<&Path>) -> DbConfig {
        let mut url = reqwest::Url::parse(self.db.url()).unwrap();
        url.set_username(&self.name).unwrap();
        url.set_password(password).unwrap();
        DbConfig {
            database_url: Secret::new(url.as_str()),
            database_password_file: file.map(Into::into),
            ..servers::config(url.as_str())
        }
    }

    async fn remove(self, pool: Db) {
        pool.close().await;
        let removal = format!("drop role {}", self.name);
        sqlx::raw_sql(AssertSqlSafe(removal))
            .execute(&**self.db)
            .await
            .unwrap();
    }
}

async fn wait_until_refused(pool: &Db) {
    eventually(NOTICED_MAX, "the process is not ready", || async {
        let error = pool.check_ready().await.err()?;
        let said = error.to_string();
        assert!(said.contains("refuses the login"), "{said}");
        match error {
            NotReady::Db(error) => (Trouble::of(&error) == Some(Trouble::Login)).then_some(()),
            NotReady::Trouble(trouble) => panic!("{trouble:?}"),
        }
    })
    .await;
}

async fn wait_until_ready(pool: &Db) {
    eventually(NOTICED_MAX, "the process is ready", || async {
        pool.check_ready().await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_password_is_read_again_from_its_file() {
    let db = given::database().await;
    let login = Login::create(&db, "one").await;
    let folder = servers::folder();
    let file = folder.path().join("password");
    fs::write(&file, "one\n").unwrap();
    let pool = Db::connect(&login.config(None, Some(&file)), "tests").unwrap();
    pool.check_ready().await.unwrap();
    login.set_password("two").await;
    wait_until_refused(&pool).await;
    fs::write(&file, "two\n").unwrap();
    wait_until_ready(&pool).await;
    login.remove(pool).await;
}

#[tokio::test]
async fn a_process_is_ready_again_when_its_password_is_right_again() {
    let db = given::database().await;
    let login = Login::create(&db, "one").await;
    let pool = Db::connect(&login.config(Some("one"), None), "tests").unwrap();
    pool.check_ready().await.unwrap();
    login.set_password("two").await;
    wait_until_refused(&pool).await;
    login.set_password("one").await;
    wait_until_ready(&pool).await;
    login.remove(pool).await;
}
