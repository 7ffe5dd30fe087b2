use sqlx::PgConnection;

use super::{QueueError, find::find_on};
use crate::{
    Job, JobId,
    db::Kept,
    together::{Found, Look, Together},
};

/// Looks jobs up for all who ask at the same moment; cheap to clone.
#[derive(Debug, Clone)]
pub struct Finder(Together<Jobs>);

#[derive(Debug)]
struct Jobs;

impl Look for Jobs {
    type Ask = (JobId, String);
    type Found = Job;
    type Error = QueueError;

    async fn look(db: &mut PgConnection, asks: &[Self::Ask]) -> Result<Found<Self>, QueueError> {
        let (ids, owners): (Vec<_>, Vec<_>) = asks
            .iter()
            .map(|(job, by)| (job.uuid(), by.clone()))
            .unzip();
        let jobs = find_on(db, &ids, &owners).await?.into_iter();
        Ok(jobs.map(|job| ((job.id, job.owner.clone()), job)).collect())
    }
}

impl Finder {
    /// `db` reads [by keys](Kept::by_keys).
    pub fn start(db: Kept) -> Self {
        Self(Together::start(db))
    }

    /// As [`find`](super::find()).
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn find(&self, job: JobId, owner: &str) -> Result<Option<Job>, QueueError> {
        self.0.find((job, owner.to_owned())).await
    }
}
