use sqlx::PgConnection;

use super::{QueueError, find::find_on};
use crate::{
    Job, JobId,
    batch_loader::{BatchLoad, BatchLoader, Loaded},
    db::StatementPool,
};

/// Finds jobs; concurrent look-ups share a statement. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobLoader(BatchLoader<JobLoad>);

#[derive(Debug)]
struct JobLoad;

impl BatchLoad for JobLoad {
    type Key = (JobId, String);
    type Value = Job;
    type Error = QueueError;

    const TASK: &'static str = "job loader";

    async fn load(db: &mut PgConnection, keys: &[Self::Key]) -> Result<Loaded<Self>, QueueError> {
        let (ids, owners): (Vec<_>, Vec<_>) = keys
            .iter()
            .map(|(job, owner)| (job.uuid(), owner.clone()))
            .unzip();
        let jobs = find_on(db, &ids, &owners).await?.into_iter();
        Ok(jobs.map(|job| ((job.id, job.owner.clone()), job)).collect())
    }
}

impl JobLoader {
    /// `db`: a pool for look-ups [by keys](StatementPool::by_keys).
    pub fn start(db: StatementPool) -> Self {
        Self(BatchLoader::start(db))
    }

    /// As [`find`](super::find()).
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn find(&self, job: JobId, owner: &str) -> Result<Option<Job>, QueueError> {
        self.0.load((job, owner.to_owned())).await
    }
}
