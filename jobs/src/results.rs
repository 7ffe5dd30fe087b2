//! Results that are objects of their own: masks, and what is too large for a row. The row names the object; both belong to
//! the job, and go with it.

mod collect;

use std::collections::HashSet;

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

pub use collect::collect;

use crate::queue::Lease;

/// What all keys of results begin with.
pub(crate) const PREFIX: &str = "results/";

/// Field of a stored result that names its object; no client sees it. The SQL of purging knows it too.
const OBJECT_KEY: &str = "object_key";

/// What kind of object a result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The picture that a `segment` task made.
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

    /// Field under which clients find where to get it.
    const fn url_field(self) -> &'static str {
        match self {
            Self::Mask => "mask_url",
            Self::Json => "url",
        }
    }
}

/// Where the result of one attempt lies in the bucket. No two attempts share a key, so that a late one never overwrites
/// what another has committed.
pub fn object_key(owner: &str, lease: Lease, kind: Kind) -> String {
    let job = lease.job_id.uuid().simple().to_string();
    let (spread, lease_no) = (&job[job.len() - 2..], lease.lease_no);
    format!(
        "{PREFIX}{owner}/{spread}/{job}/{lease_no}{}",
        kind.extension()
    )
}

/// Whose result an object is; `None` if [`object_key`] did not make its key.
fn job_of(key: &str) -> Option<Uuid> {
    let mut parts = key.strip_prefix(PREFIX)?.split('/');
    let (_owner, _spread, job) = (parts.next()?, parts.next()?, parts.next()?);
    let file = parts.next()?;
    let known = Kind::ALL
        .iter()
        .any(|kind| file.ends_with(kind.extension()));
    (known && parts.next().is_none()).then(|| Uuid::try_parse(job).ok())?
}

/// A result, as it is stored, that names its object.
pub fn naming(mut result: Value, key: String) -> Value {
    result[OBJECT_KEY] = key.into();
    result
}

/// The object that a stored result names, if it does.
pub fn key_of(result: &Value) -> Option<&str> {
    result.get(OBJECT_KEY)?.as_str()
}

/// A stored result as its client reads it: instead of the object's key, `url` as `mask_url` or `url`.
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

/// Those of these keys that results name, and those that no result has made.
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
        let one = lease(3);
        let key = object_key("alice", one, Kind::Mask);
        assert!(
            key.starts_with("results/alice/") && key.ends_with("/3.png"),
            "{key}"
        );
        assert_eq!(job_of(&key), Some(one.job_id.uuid()));
        let retried = Lease {
            lease_no: LeaseNo(4),
            ..one
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
