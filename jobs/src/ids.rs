//! Ids: UUIDv7 with a type prefix on the wire, plain columns in Postgres.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A job's id: `job_` and 32 hex digits of a UUIDv7 (time-ordered) on the wire, `uuid` in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub struct JobId(Uuid);

#[derive(Debug, thiserror::Error)]
#[error("not a job id: want `job_` and 32 hex digits")]
pub struct NotAJobId;

impl JobId {
    pub fn now() -> Self {
        Self(Uuid::now_v7())
    }

    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for JobId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job_{}", self.0.simple())
    }
}

impl FromStr for JobId {
    type Err = NotAJobId;

    fn from_str(text: &str) -> Result<Self, NotAJobId> {
        let uuid = text.strip_prefix("job_").ok_or(NotAJobId)?;
        Uuid::try_parse(uuid).map(Self).map_err(|_| NotAJobId)
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A batch's id: `batch_` and 32 hex digits of a UUIDv7 on the wire, `uuid` in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub struct BatchId(Uuid);

#[derive(Debug, thiserror::Error)]
#[error("not a batch id: want `batch_` and 32 hex digits")]
pub struct NotABatchId;

impl BatchId {
    pub fn now() -> Self {
        Self(Uuid::now_v7())
    }

    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for BatchId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch_{}", self.0.simple())
    }
}

impl FromStr for BatchId {
    type Err = NotABatchId;

    fn from_str(text: &str) -> Result<Self, NotABatchId> {
        let uuid = text.strip_prefix("batch_").ok_or(NotABatchId)?;
        Uuid::try_parse(uuid).map(Self).map_err(|_| NotABatchId)
    }
}

impl Serialize for BatchId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Fencing token of a job's lease. Grows with every claim and whenever the job is taken back; never refunded, unlike attempt
/// counters.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    derive_more::Display,
    derive_more::From,
    Serialize,
    sqlx::Type,
)]
#[sqlx(transparent)]
pub struct LeaseNo(pub i32);

/// Id of one worker process; never reused.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    derive_more::Display,
    derive_more::From,
    Serialize,
    sqlx::Type,
)]
#[sqlx(transparent)]
pub struct WorkerId(pub i64);

#[cfg(test)]
mod tests {
    use super::JobId;

    #[test]
    fn a_job_id_survives_the_wire_with_and_without_hyphens() {
        let id = JobId::now();
        assert_eq!(id.to_string().parse::<JobId>().expect("own form"), id);
        assert_eq!(
            format!("job_{}", id.uuid())
                .parse::<JobId>()
                .expect("hyphens"),
            id
        );
        assert!(
            id.uuid().to_string().parse::<JobId>().is_err(),
            "the prefix is part of the id"
        );
    }
}
