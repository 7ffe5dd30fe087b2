use sqlx::PgPool;

use super::QueueError;

/// How long recent jobs of a model took.
#[derive(Debug, Clone)]
pub struct Latency {
    pub model: String,
    /// Median time from due to succeeded.
    pub p50_seconds: f64,
}

/// Latencies of models, from up to 1000 jobs that succeeded in the last minute. Models without such jobs are left out.
///
/// # Errors
/// Postgres is away.
pub async fn latency(db: &PgPool) -> Result<Vec<Latency>, QueueError> {
    let rows = sqlx::query_as!(
        Latency,
        r#"select m.name as model,
                  percentile_cont(0.5) within group (order by extract(epoch from f.finished_at - f.run_at)::float8) as "p50_seconds!"
           from (select model_id, run_at, finished_at from finished_jobs
                 where state = 'succeeded' and finished_at > now() - interval '1 minute' and job_id >= uuid_from_time(now() - interval '1 day')
                 limit 1000) f
           join models m using (model_id) group by m.name"#
    );
    Ok(rows.fetch_all(db).await?)
}
