//! Results that are stored as objects: masks, and results that are too large for a row. The row names the object. Both are
//! deleted with the job.

mod collect;

use std::collections::HashSet;

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

pub use collect::collect;

use crate::queue::Lease;

/// Prefix of the keys of all results.
pub(crate) const PREFIX: &str = "results/";

/// Field of a stored result with the key of its object; clients do not see it. The SQL of `purge_job` uses it too.
const OBJECT_KEY: &str = "object_key";

/// Kinds of result objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The mask of a `segment` task.
    Mask,
    /// The whole result, of any task.
    Json,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Mask, Self::Json];

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Mask => "image/png",
            Self::Json => "application/json",
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Mask => ".png",
            Self::Json => ".json",
        }
    }

    /// Field of the result that has the URL for clients.
    const fn url_field(self) -> &'static str {
        match self {
            Self::Mask => "mask_url",
            Self::Json => "url",
        }
    }
}

/// The key of an attempt's result in the bucket. Two attempts never share a key, so that a late attempt cannot overwrite a
/// committed result.
pub fn object_key(owner: &str, lease: Lease, kind: Kind) -> String {
    let job = lease.job_id.uuid().simple().to_string();
    let (spread, lease_no) = (&job[job.len() - 2..], lease.lease_no);
    format!(
        "{PREFIX}{owner}/{spread}/{job}/{lease_no}{}",
        kind.extension()
    )
}

/// The job of a result object; `None` if [`object_key`] did not make the key.
fn job_of(key: &str) -> Option<Uuid> {
    let mut parts = key.strip_prefix(PREFIX)?.split('/');
    let (_owner, _spread, job) = (parts.next()?, parts.next()?, parts.next()?);
    let file = parts.next()?;
    let known = Kind::ALL
        .iter()
        .any(|kind| file.ends_with(kind.extension()));
    (known && parts.next().is_none()).then(|| Uuid::try_parse(job).ok())?
}

/// Adds the key of its object to a result that will be stored.
pub fn naming(mut result: Value, key: String) -> Value {
    result[OBJECT_KEY] = key.into();
    result
}

/// The key of a stored result's object, if it has one.
pub fn key_of(result: &Value) -> Option<&str> {
    result.get(OBJECT_KEY)?.as_str()
}

/// A stored result as clients read it: the object's key is replaced by `url`, in the field `mask_url` or `url`.
pub fn shown(mut result: Value, url: &str) -> Value {
    let key = result
        .as_object_mut()
        .and_then(|fields| fields.remove(OBJECT_KEY));
    let Some(Value::String(key)) = key else {
        return result;
    };
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| key.ends_with(kind.extension()));
    result[kind.unwrap_or(Kind::Json).url_field()] = json!(url);
    result
}

/// Those of `keys` that must stay: results name them, or no attempt made them.
pub(crate) async fn needed(db: &PgPool, keys: &[&str]) -> Result<HashSet<String>, sqlx::Error> {
    let foreign = keys.iter().filter(|key| job_of(key).is_none());
    let mut needed: HashSet<String> = foreign.map(|key| (*key).to_owned()).collect();
    let ids: Vec<Uuid> = keys.iter().filter_map(|key| job_of(key)).collect();
    let named = sqlx::query_scalar!(
        r#"select result ->> 'object_key' as "key!" from finished_jobs
           where job_id = any($1) and purged_at is null and result ? 'object_key'"#,
        &ids
    );
    needed.extend(named.fetch_all(db).await?);
    Ok(needed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Kind, job_of, key_of, naming, object_key, shown};
    use crate::{JobId, LeaseNo, queue::Lease};

    #[test]
    fn a_key_says_whose_result_it_is_and_of_which_attempt() {
        let lease = |number| Lease {
            job_id: JobId::now(),
            lease_no: LeaseNo(number),
        };
        let first = lease(3);
        let key = object_key("alice", first, Kind::Mask);
        assert!(
            key.starts_with("results/alice/") && key.ends_with("/3.png"),
            "{key}"
        );
        assert_eq!(job_of(&key), Some(first.job_id.uuid()));
        let retried = Lease {
            lease_no: LeaseNo(4),
            ..first
        };
        assert_ne!(object_key("alice", retried, Kind::Mask), key);
        for other in [
            "results/alice/x/y/3.png",
            "images/alice",
            "results/alice/notes.txt",
        ] {
            assert_eq!(job_of(other), None, "{other}");
        }
    }

    #[test]
    fn clients_see_where_to_get_an_object_and_never_its_key() {
        let mask = naming(json!({"width": 4}), "results/a/b/c/1.png".into());
        assert_eq!(key_of(&mask), Some("results/a/b/c/1.png"));
        assert_eq!(
            shown(mask, "/here"),
            json!({"width": 4, "mask_url": "/here"})
        );
        let large = naming(json!({"bytes": 70_000}), "results/a/b/c/1.json".into());
        assert_eq!(
            shown(large, "/here"),
            json!({"bytes": 70_000, "url": "/here"})
        );
    }

    #[test]
    fn a_result_of_its_row_is_shown_as_it_is() {
        let result = json!({"labels": []});
        assert_eq!(key_of(&result), None);
        assert_eq!(shown(result.clone(), "/here"), result);
    }
}
