//! Lists: a page reads a bounded part of an index, whatever its filter, however long the history of its owner.

use jobs::{
    JobId, JobState, Problem, ProblemCode,
    db::StatementPool,
    queue::{self, JobFilter, PageSize},
};
use serde_json::{Map, json};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tests::{Database, given};

const IDS: &str = include_str!("../../../jobs/src/queue/list_ids.sql");
const OUTCOME_IDS: &str = include_str!("../../../jobs/src/queue/list_outcome_ids.sql");

async fn page(db: &PgPool, filter: &JobFilter, size: PageSize) -> (Vec<JobId>, Option<JobId>) {
    let page = queue::list(db, given::OWNER, filter, size).await.unwrap();
    (page.jobs.iter().map(|job| job.id).collect(), page.next)
}

async fn fail_next_job(db: &PgPool) -> JobId {
    let held = given::claimed_by(db, "w").await;
    let problem = Problem::new(ProblemCode::ModelError, "made up");
    tests::settling::fail(db, &[(held.lease(), problem)])
        .await
        .unwrap();
    held.job_id()
}

#[tokio::test]
async fn a_page_ends_where_it_has_looked_at_enough_and_the_next_one_goes_on() {
    let db = given::database().await;
    let wanted = Map::from_iter([("shelf".to_owned(), json!("top"))]);
    let first = given::queued_with(&db, "a", |job| job.metadata = wanted.clone()).await;
    given::queued(&db, ["b", "c"]).await;
    // Live and finished jobs are looked at together.
    fail_next_job(&db).await;
    given::queued(&db, ["d", "e"]).await;
    let mut filter = JobFilter {
        metadata: wanted,
        ..JobFilter::default()
    };
    let size = PageSize {
        jobs: 10,
        looked_at: 2,
    };
    let mut pages = Vec::new();
    loop {
        let (jobs, next) = page(&db, &filter, size).await;
        pages.push(jobs);
        filter.before = next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec![], vec![], vec![first]]);
}

#[tokio::test]
async fn a_page_without_a_filter_is_full() {
    let db = given::database().await;
    let mut ids = given::queued(&db, ["a", "b", "c", "d"]).await;
    ids.reverse();
    let size = PageSize {
        jobs: 3,
        looked_at: 1,
    };
    let (jobs, next) = page(&db, &JobFilter::default(), size).await;
    assert_eq!(jobs, ids[..3]);
    assert_eq!(next, Some(ids[2]));
}

#[tokio::test]
async fn a_filter_by_outcome_passes_over_no_other_job() {
    let db = given::database().await;
    given::queued(&db, ["a", "b", "c", "d", "e"]).await;
    let first = fail_next_job(&db).await;
    for _ in 0..3 {
        let held = given::claimed_by(&db, "w").await;
        tests::settling::complete(&db, &[held.completion("done")])
            .await
            .unwrap();
    }
    let last = fail_next_job(&db).await;
    let filter = JobFilter {
        state: Some(JobState::Failed),
        ..JobFilter::default()
    };
    let size = PageSize {
        jobs: 10,
        looked_at: 1,
    };
    assert_eq!(page(&db, &filter, size).await, (vec![last, first], None));
    let canceled = JobFilter {
        state: Some(JobState::Canceled),
        ..JobFilter::default()
    };
    assert_eq!(page(&db, &canceled, size).await, (vec![], None));
}

#[tokio::test]
async fn attempts_of_a_page_equal_those_of_each_job() {
    let db = given::database().await;
    given::queued(&db, ["a", "b", "c"]).await;
    fail_next_job(&db).await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::release(&db, &[held.lease()])
        .await
        .unwrap();
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    let all = JobFilter::default();
    let jobs = queue::list(db.pool(), given::OWNER, &all, PageSize::of(10)).await;
    let jobs = jobs.unwrap().jobs;
    assert_eq!(jobs.len(), 3);
    let of_page = queue::attempts_of_all(db.pool(), &jobs).await.unwrap();
    for (job, attempts) in jobs.iter().zip(of_page) {
        assert_eq!(attempts, queue::attempts(&db, job.id).await.unwrap());
    }
}

/// Thousands of live and finished jobs of fifty owners, none of these the owner of the list.
async fn busy_database() -> Database {
    let db = given::database().await;
    given::queued(&db, ["done", "failed"]).await;
    let held = given::claimed_by(&db, "w").await;
    tests::settling::complete(&db, &[held.completion("done")])
        .await
        .unwrap();
    fail_next_job(&db).await;
    let model = given::model_version(&db, given::MODEL).await;
    let jobs = |of_owner: usize| {
        let mut job = given::job(&model, "any");
        job.owner = format!("owner-{}", of_owner % 50);
        job
    };
    let jobs: Vec<_> = (0..2_000).map(jobs).collect();
    queue::enqueue(&db, &jobs).await.unwrap();
    sqlx::query(
        "insert into finished_jobs
         select (jsonb_populate_record(f, jsonb_build_object('job_id', new_job_id(), 'owner', 'owner-' || n % 50))).*
         from finished_jobs f, generate_series(1, 5000) n",
    )
    .execute(&**db)
    .await
    .unwrap();
    sqlx::raw_sql("vacuum analyze live_jobs")
        .execute(&**db)
        .await
        .unwrap();
    sqlx::raw_sql("vacuum analyze finished_jobs")
        .execute(&**db)
        .await
        .unwrap();
    db
}

async fn plan(db: &mut PgConnection, statement: &str, types: &str, arguments: &str) -> Vec<String> {
    let prepare = format!(
        "{}; deallocate all; prepare page ({types}) as {statement}",
        StatementPool::IN_ORDER
    );
    sqlx::raw_sql(AssertSqlSafe(prepare))
        .execute(&mut *db)
        .await
        .unwrap();
    let explain = format!("explain (costs off) execute page ({arguments})");
    sqlx::query_scalar(AssertSqlSafe(explain))
        .persistent(false)
        .fetch_all(db)
        .await
        .unwrap()
}

/// The scans of the live table and of the partition of today, each with the condition of its index.
fn scans(plan: &[String]) -> Vec<(&str, &str)> {
    let today = chrono::Utc::now()
        .format(" on finished_jobs_%Y%m%d ")
        .to_string();
    let lines = plan.iter().zip(plan.iter().skip(1));
    let scans = lines.filter(|(scan, _)| {
        scan.contains("Scan") && (scan.contains(&today) || scan.contains(" on live_jobs "))
    });
    scans
        .map(|(scan, condition)| (scan.trim(), condition.trim()))
        .collect()
}

/// An owner with few jobs must not pay for the jobs of all others, and no page sorts a history.
#[tokio::test]
async fn a_page_reads_the_index_of_its_owner_in_order() {
    const BOUNDS: &str = "'alice', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '00000000-0000-0000-0000-000000000000', 51, 20000, true";
    let db = busy_database().await;
    let mut db = db.connection().await;
    for (statement, types, arguments, index, row) in [
        (
            IDS,
            "text, uuid, uuid, bigint, bigint, boolean, boolean, boolean, text, text, text, jsonb, timestamptz, timestamptz, uuid",
            "true, true, null, null, null, '{}', null, null, null",
            ["live_jobs_by_owner", "_owner_job_id_idx"],
            "ROW(owner, job_id) ",
        ),
        (
            OUTCOME_IDS,
            "text, uuid, uuid, bigint, bigint, boolean, text, text, text, jsonb, timestamptz, timestamptz, uuid",
            "'failed', null, null, '{}', null, null, null",
            ["_owner_state_job_id_idx"; 2],
            "ROW(owner, state, job_id) ",
        ),
    ] {
        let plan = plan(&mut db, statement, types, &format!("{BOUNDS}, {arguments}")).await;
        let whole = plan.join("\n");
        let scans = scans(&plan);
        assert!(scans.len() >= 2, "{whole}");
        for (scan, condition) in scans {
            let is_in_order = scan.contains("Scan Backward using")
                && index.iter().any(|index| scan.contains(index));
            assert!(is_in_order, "{scan}\n{whole}");
            for sign in ["<", ">="] {
                let bound = format!("{row}{sign} ");
                assert!(condition.contains(&bound), "{condition}\n{whole}");
            }
        }
    }
}

/// A question for live jobs must not read the archive. (One for finished jobs reads the live ones too: they are few, and the planner
/// looks at constraints of partitions only.)
#[tokio::test]
async fn a_question_for_live_jobs_reads_no_finished_job() {
    let db = given::database().await;
    let mut db = db.connection().await;
    for (condition, finished) in [
        ("status = 'running'", false),
        ("status in ('queued', 'scheduled')", false),
        ("status = 'failed'", true),
        ("status in ('running', 'failed')", true),
    ] {
        let explain = format!("explain (costs off) select id from ops.jobs where {condition}");
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
            .persistent(false)
            .fetch_all(&mut db)
            .await
            .unwrap();
        let reads_finished = plan
            .iter()
            .any(|line| line.contains("Scan") && line.contains(" on finished_jobs"));
        assert_eq!(reads_finished, finished, "{condition}\n{}", plan.join("\n"));
    }
}
