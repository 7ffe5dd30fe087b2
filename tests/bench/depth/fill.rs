//! Fills a database with millions of finished or queued jobs, by SQL on the server.

use jobs::queue::NewJob;
use sqlx::{AssertSqlSafe, PgPool};

/// Days over which the history is spread.
const DAYS: u64 = 10;

/// SQL of a UUIDv7 from the time `at` and the number `n`. Ids must follow the order of claims, so that jobs of one claim are
/// neighbors in the indexes.
const ID: &str = "(left(uuid_from_time(at)::text, 14) || '7' || substr(md5(n::text), 1, 3) || '-8' || substr(md5(n::text), 4, 3) || '-'
        || substr(md5(n::text), 7, 12))::uuid";

/// Fills the archive up to so many rows, evenly over the past days and their partitions.
pub(super) async fn finished(db: &PgPool, rows: u64) {
    let there: i64 = sqlx::query_scalar("select count(*) from finished_jobs")
        .fetch_one(db)
        .await
        .unwrap();
    let (first, last) = (there as u64 / DAYS, rows / DAYS);
    for day in 1..=DAYS {
        run(
            db,
            &format!(
                "do $$
                 declare
                     day date := current_date - {day};
                 begin
                     execute format('create table if not exists finished_jobs_%s partition of finished_jobs for values from (%L) to (%L)',
                         to_char(day, 'YYYYMMDD'), uuid_from_time(day::timestamp at time zone 'UTC'),
                         uuid_from_time((day + 1)::timestamp at time zone 'UTC'));
                 end $$"
            ),
        )
        .await;
        run(
            db,
            &format!(
                "set synchronous_commit = off;
                 insert into finished_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata,
                     priority, created_at, run_at, retain_for, retain_until, lease_no, claimed_at, finished_at, attempt_timeout_seconds,
                     attempts_started, attempts_charged, attempts_max, interruptions, interruptions_max, worker, device, result, timings,
                     forward_batch_size, forward_batch_position)
                 select {ID},
                     'succeeded', 3, 'owner-' || n % 20, 1, 1, 'lite@default', sha256(n::text::bytea), '{{\"top_k\": 5}}', '{{}}', 0, at, at,
                     interval '30 days', at + interval '30 days', 1, at, at, 120, 1, 1, 3, 0, 3, 'bench', 'cpu', '{{\"answer\": \"no-op\"}}',
                     '{{\"infer\": 1.5, \"queue\": 0.8, \"total\": 4.2}}', 1, 0
                 from generate_series({first}, {last} - 1) n,
                     lateral (select (current_date - {day})::timestamp at time zone 'UTC' + n * interval '1 day' / {last} as at) moment;
                 set synchronous_commit = on"
            ),
        )
        .await;
    }
    run(db, "vacuum analyze finished_jobs").await;
    run(db, "checkpoint").await;
}

/// Queues so many jobs of the model of `like`, of 20 owners.
pub(super) async fn queued(db: &PgPool, like: &NewJob, rows: u64) {
    let (model, version) = (like.model.model_id, like.model.model_version_id);
    run(
        db,
        &format!(
            "set synchronous_commit = off;
             insert into live_jobs (job_id, state, owner, model_id, model_version_id, model_ref, image_sha256, params, priority, seq,
                 retain_for, attempt_timeout_seconds, attempts_max, interruptions_max)
             select {ID}, 'queued', 'owner-' || n % 20, {model}, {version}, 'lite@default', sha256(n::text::bytea),
                 '{{\"top_k\": 5}}', 0, n, interval '1 day', 120, 3, 3
             from generate_series(1, {rows}) n, lateral (select now() - interval '1 hour' * (1 - n::float8 / {rows}) as at) moment;
             insert into lanes (model_id, priority, owner, next_seq)
             select {model}, 0, 'owner-' || n, {rows} from generate_series(0, 19) n;
             set synchronous_commit = on"
        ),
    )
    .await;
    run(db, "vacuum analyze live_jobs").await;
    run(db, "checkpoint").await;
}

/// Runs statements without the statement timeout of the pool: they take minutes.
async fn run(db: &PgPool, statements: &str) {
    let mut connection = db.acquire().await.unwrap();
    sqlx::raw_sql("set statement_timeout = 0")
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::raw_sql("reset statement_timeout")
        .execute(&mut *connection)
        .await
        .unwrap();
}
