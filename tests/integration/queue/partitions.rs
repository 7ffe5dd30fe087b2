//! A finished job is in the partition of the day that its id contains.

use jobs::{JobId, queue};
use sqlx::PgPool;
use tests::given;

async fn partition_of(db: &PgPool, job: JobId) -> String {
    sqlx::query_scalar("select tableoid::regclass::text from finished_jobs where job_id = $1")
        .bind(job.uuid())
        .fetch_one(db)
        .await
        .unwrap()
}

async fn finished_job(db: &PgPool, name: &str) -> JobId {
    let [job] = given::queued(db, [name]).await;
    queue::cancel(db, job, Some(given::OWNER)).await.unwrap();
    job
}

#[tokio::test]
async fn a_job_of_today_is_in_the_partition_of_today() {
    let db = given::database().await;
    let today = format!("finished_jobs_{}", chrono::Utc::now().format("%Y%m%d"));
    let job = finished_job(&db, "cat").await;
    let tomorrow = format!("finished_jobs_{}", chrono::Utc::now().format("%Y%m%d"));
    let found = partition_of(&db, job).await;
    assert!([today, tomorrow].contains(&found), "{found}");
}

#[tokio::test]
async fn a_look_up_by_id_reads_one_partition() {
    let db = given::database().await;
    let job = finished_job(&db, "cat").await;
    let plan: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "explain select * from finished_jobs where job_id = '{}'",
        job.uuid()
    )))
    .fetch_all(&*db)
    .await
    .unwrap();
    let scans = plan
        .iter()
        .filter(|line| line.contains(" on finished_jobs"));
    assert_eq!(scans.count(), 1, "{plan:#?}");
}

#[tokio::test]
async fn partitions_are_created_once_and_days_ahead() {
    let db = given::database().await;
    assert_eq!(jobs::db::make_partitions(&db, 3).await.unwrap(), 0);
    assert_eq!(
        jobs::db::make_partitions(&db, 5).await.unwrap(),
        6,
        "two days of three tables"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_create_each_partition_once() {
    let db = given::database().await;
    let makers = (0..5).map(|_| jobs::db::make_partitions(&db, 10));
    let made = futures_util::future::join_all(makers).await;
    let made: i32 = made.into_iter().map(Result::unwrap).sum();
    assert_eq!(made, 21);
}

/// All processes were down until no partition was left, then a job ended in the default partition.
#[tokio::test]
async fn rows_in_the_default_partition_do_not_stop_partitions_of_later_days() {
    let db = given::database().await;
    let today = chrono::Utc::now().format("%Y%m%d");
    for parent in ["finished_jobs", "attempts"] {
        let drop_today = format!("drop table {parent}_{today}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(drop_today))
            .execute(&*db)
            .await
            .unwrap();
    }
    let job = finished_job(&db, "cat").await;
    assert_eq!(partition_of(&db, job).await, "finished_jobs_default");
    jobs::db::make_partitions(&db, 5)
        .await
        .expect("partitions of later days do not depend on the partition of today");
    let later = chrono::Utc::now() + chrono::TimeDelta::days(5);
    let exists: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(format!("finished_jobs_{}", later.format("%Y%m%d")))
        .fetch_one(&*db)
        .await
        .unwrap();
    assert!(exists);
    assert!(
        queue::find(&db, job, given::OWNER).await.unwrap().is_some(),
        "the job must still be readable"
    );
}

/// Sessions far from UTC. In the second one Postgres could not read a time again that it had written.
#[tokio::test]
async fn a_day_is_a_day_of_utc_in_every_session() {
    let db = given::database().await;
    for zone in ["<odd>-100", "<odd>-20"] {
        let mut session = db.connection().await;
        sqlx::query("select set_config('timezone', $1, false)")
            .bind(zone)
            .execute(&mut session)
            .await
            .unwrap();
        let made = "select make_partitions(3) + make_event_partitions(3)";
        let made: i32 = sqlx::query_scalar(made)
            .fetch_one(&mut session)
            .await
            .unwrap();
        assert_eq!(made, 0, "these days were there: {zone}");
        let day = (chrono::Utc::now() + chrono::TimeDelta::days(9)).format("%Y%m%d");
        for table in ["attempts", "events", "finished_jobs"] {
            let removal = format!("drop table if exists {table}_{day}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(removal))
                .execute(&*db)
                .await
                .unwrap();
        }
        let made = "select make_partitions(9) + make_event_partitions(9)";
        sqlx::query(made).execute(&mut session).await.unwrap();
    }
    let bounds: Vec<String> = sqlx::query_scalar(
        "select pg_get_expr(c.relpartbound, c.oid) from pg_inherits h join pg_class c on c.oid = h.inhrelid
         where h.inhparent = 'events'::regclass and c.relname <> 'events_default'",
    )
    .fetch_all(&*db)
    .await
    .unwrap();
    assert_eq!(bounds.len(), 10, "today and nine days ahead");
    for bound in bounds {
        assert_eq!(bound.matches(" 00:00:00+00'").count(), 2, "{bound}");
    }
}
