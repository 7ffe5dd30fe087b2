//! Every statement of `docs/sql.md` runs without a change and returns rows.

use jobs::{InputWarning, Problem, ProblemCode, Sha256Digest, queue};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use tests::{Database, clock, given};

const DOCS: &str = include_str!("../../../docs/sql.md");
/// Names and ids that the document uses.
const MODEL: &str = "efficientnet-lite0";
const OWNER: &str = "acme";
const FAILED: &str = "job_0198f3c2a1b47d1e8c55a0f3d2e1b4c7";
const WAITING: &str = "job_0198f3c2a1b47d1e8c55a0f3d2e1b4d8";
const IMAGE: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn statements() -> Vec<&'static str> {
    let blocks = DOCS.split("```sql\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap().trim())
        .collect()
}

/// Makes jobs in every state and with every kind of fault; returns the ids of a failed and of a queued job.
async fn make_jobs_of_every_kind(db: &Database) -> (String, String) {
    let model = given::model_version(db, MODEL).await;
    let job = |name: &str| {
        let mut job = given::job(&model, name);
        job.owner = OWNER.into();
        job
    };
    let fault = || Problem::new(ProblemCode::ModelError, "made up");
    let mut jobs: Vec<_> = [
        "done",
        "failed",
        "backs off",
        "lost",
        "suspect",
        "slow",
        "waiting",
        "test",
    ]
    .map(job)
    .into();
    for job in &mut jobs[3..5] {
        job.interruptions_max = 5;
    }
    queue::enqueue(db, &jobs).await.unwrap();
    let worker = given::worker(db, "gpu-07").await;
    let claims = tests::claiming::claim(db, worker, &[], 3).await.unwrap();
    let mut done = given::prediction(json!({"answer": "done"}));
    done.timings = json!({"infer": 19.4, "fetch": 12.0});
    done.input_warnings = vec![InputWarning::StrayBytes];
    let done = given::succeeded(claims[0].lease, done);
    tests::settling::complete(db, &[done]).await.unwrap();
    tests::settling::fail(db, &[(claims[1].lease, fault())])
        .await
        .unwrap();
    tests::settling::retry(db, &[(claims[2].lease, fault())])
        .await
        .unwrap();
    clock::stays_scheduled(db, claims[2].lease.job_id).await;
    // Two workers are lost with one job, and a third worker with another job.
    for _ in 0..2 {
        let held = given::claimed_by(db, "vanished").await;
        clock::lease_ran_out(db, held.worker).await;
        queue::rescue(&**db).await.unwrap();
    }
    let lost = given::claimed_by(db, "gone").await;
    sqlx::query(
        "update workers set lease_until = now() - interval '1 minute' where worker_id = $1",
    )
    .bind(lost.worker.0)
    .execute(&**db)
    .await
    .unwrap();
    let slow = tests::claiming::claim(db, worker, &[], 1).await.unwrap();
    sqlx::query("update live_jobs set claimed_at = now() - interval '5 minutes' where job_id = $1")
        .bind(slow[0].lease.job_id.uuid())
        .execute(&**db)
        .await
        .unwrap();
    assert!(
        queue::pause(db, MODEL, Some("bad labels since noon"), "api key 1f")
            .await
            .unwrap()
    );
    assert_eq!(Sha256Digest::of(b"test").hex(), IMAGE);
    let waiting: String = sqlx::query_scalar(
        "select id from ops.jobs where status = 'queued' order by job_id desc limit 1",
    )
    .fetch_one(&**db)
    .await
    .unwrap();
    (claims[1].lease.job_id.to_string(), waiting)
}

async fn count_rows(db: &mut PgConnection, statement: &str) -> usize {
    let rows = sqlx::raw_sql(AssertSqlSafe(statement)).fetch_all(db).await;
    rows.unwrap_or_else(|error| panic!("{error}: {statement}"))
        .len()
}

#[tokio::test]
async fn every_statement_of_the_document_returns_rows() {
    let db = given::database().await;
    let (failed, waiting) = make_jobs_of_every_kind(&db).await;
    let mut operator = db.connection().await;
    let statements = statements();
    assert!(statements.len() >= 20, "{}", statements.len());
    for statement in statements {
        let statement = statement
            .replace(FAILED, &failed)
            .replace(WAITING, &waiting);
        count_rows(&mut operator, "begin; set local role darkroom_operator").await;
        let returned = count_rows(&mut operator, &statement).await;
        assert!(returned > 0, "no row: {statement}");
        count_rows(&mut operator, "rollback").await;
    }
}
