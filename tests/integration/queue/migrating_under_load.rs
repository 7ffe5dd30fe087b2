//! A migration under prepared statements: Postgres refuses a plan whose columns have changed.

use futures_util::future::join_all;
use jobs::{
    db::{StatementPool, is_stale_plan},
    queue::{self, JobLoader},
};
use tests::given;

/// As a later version of the schema may have it: one more column, behind all others.
const ONE_MORE_COLUMN: &str = "do $$ begin
    execute 'create or replace view ops.jobs as select v.*, 1 as added from (' || rtrim(pg_get_viewdef('ops.jobs'::regclass), ';') || ') v';
end $$";

#[tokio::test]
async fn a_stale_plan_fails_one_statement_and_its_connection_is_closed() {
    let db = given::database().await;
    let statements = StatementPool::with_one_plan(db.another_pool());
    sqlx::raw_sql("create table probe as select 1 as a")
        .execute(&*db)
        .await
        .unwrap();
    let read = async || {
        let read =
            statements.run(async |db| sqlx::query("select * from probe").fetch_one(db).await);
        read.await.map(drop)
    };
    let several = async || join_all((0..3).map(|_| read())).await;
    assert!(several().await.iter().all(Result::is_ok));
    sqlx::raw_sql("alter table probe add column b int")
        .execute(&*db)
        .await
        .unwrap();
    let refused = read().await.expect_err("the plan is older than the table");
    assert!(is_stale_plan(&refused), "{refused}");
    let again = several().await;
    assert!(again.iter().all(Result::is_ok), "{again:?}");
}

#[tokio::test]
async fn a_new_last_column_of_ops_jobs_disturbs_nobody() {
    let db = given::database().await;
    let [job] = given::queued(&db, ["cat"]).await;
    let loader = JobLoader::start(StatementPool::by_keys(db.another_pool()));
    let found = async || {
        let job_then = loader.find(job, given::OWNER).await.unwrap();
        assert!(job_then.is_some());
        assert!(queue::find(&db, job, given::OWNER).await.unwrap().is_some());
    };
    found().await;
    sqlx::raw_sql(ONE_MORE_COLUMN).execute(&*db).await.unwrap();
    found().await;
    found().await;
}
