//! Makes the state that a test starts from.

use jobs::{
    JobId, Sha256Digest, WorkerId,
    images::{self, Image, StoredImage},
    models::{self, Resolved},
    object_store::{ObjectStore, StoreConfig},
    queue::{self, Claim, NewJob, Registration},
};
use serde_json::{Value, json};
use sqlx::PgPool;

pub use crate::database::Database;

/// Default model of jobs.
pub const MODEL: &str = "lite";
/// Default owner of jobs.
pub const OWNER: &str = "alice";

/// A new database for this test, migrated and empty.
pub async fn database() -> Database {
    Database::create().await
}

/// A new bucket for this test on the server of `AWS_ENDPOINT_URL_S3`: its name, and a client of it.
pub async fn bucket() -> (String, ObjectStore) {
    let name = format!("test-{}", uuid::Uuid::now_v7().simple());
    let store = ObjectStore::connect(&StoreConfig::of_bucket(&name)).await;
    let store = store.unwrap();
    store.create_bucket().await.unwrap();
    (name, store)
}

/// A model version in the registry, without stored files. Workers cannot load it.
pub async fn model_version(db: &PgPool, name: &str) -> Resolved {
    let manifest = json!({
        "name": name, "task": "classify", "artifact": "model.pt", "labels": "labels.txt",
        "input": {"width": 224, "height": 224, "resize": "center_crop", "crop_ratio": 0.875,
                  "mean": [127, 127, 127], "std": [128, 128, 128]},
        "params": {"top_k": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 5}}
    });
    registered(db, manifest).await
}

/// A model version with this manifest, without stored files.
pub async fn registered(db: &PgPool, manifest: Value) -> Resolved {
    let name = manifest["name"].as_str().unwrap().to_owned();
    let digest = Sha256Digest::of(manifest.to_string().as_bytes());
    sqlx::query(
        "with model as (
             insert into models as m (name, is_default) values ($1, not exists (select 1 from models))
             on conflict (name) do update set name = m.name returning model_id
         ), made as (
             insert into model_versions (model_id, version, digest, task, manifest, files)
             select model_id, 1, $2, $3, $4, '{}' from model
             on conflict (model_id, digest) do update set files = model_versions.files returning model_id, model_version_id
         )
         insert into model_aliases (model_id, alias, model_version_id) select model_id, 'default', model_version_id from made
         on conflict do nothing",
    )
    .bind(&name)
    .bind(digest.as_bytes().as_slice())
    .bind(manifest["task"].as_str().unwrap())
    .bind(&manifest)
    .execute(db)
    .await
    .unwrap();
    resolved(db, &name).await
}

pub async fn resolved(db: &PgPool, reference: &str) -> Resolved {
    let resolved = models::resolve_all(db, &[Some(reference.to_owned())]).await;
    resolved.unwrap().remove(0).1
}

/// Makes a second version of [`MODEL`], which takes `top_k` up to this number, and moves the alias to it.
pub async fn newer_version(db: &PgPool, alias: &str, top_k_max: i64) {
    let change = "insert into model_versions (model_id, version, digest, task, manifest, files)
         select v.model_id, v.version + 1, sha256(v.digest), v.task, jsonb_set(v.manifest, '{params,top_k,maximum}', to_jsonb($2::bigint)), v.files
         from model_versions v join models m using (model_id) where m.name = $1 order by v.version desc limit 1
         returning version";
    let version: i32 = sqlx::query_scalar(change)
        .bind(MODEL)
        .bind(top_k_max)
        .fetch_one(db)
        .await
        .unwrap();
    let moved = models::set_alias(db, MODEL, alias, version, "test").await;
    moved.unwrap();
}

/// The stored image of this owner, if it exists.
pub async fn stored(db: &PgPool, owner: &str, sha256: Sha256Digest) -> Option<StoredImage> {
    let found = images::find_all(db, &[(owner.to_owned(), sha256)]).await;
    found.unwrap().pop().map(|(_, stored)| stored)
}

/// A new job with default values, not queued yet.
pub fn job(model: &Resolved, name: &str) -> NewJob {
    let metadata = json!({ "name": name });
    let params = model.manifest.params(&serde_json::Map::new()).unwrap();
    NewJob {
        metadata: metadata.as_object().unwrap().clone(),
        retain_seconds: 86_400.0,
        interruptions_max: 3,
        ..NewJob::new(OWNER, model.clone(), image(name), params)
    }
}

fn image(name: &str) -> Image {
    Image {
        sha256: Sha256Digest::of(name.as_bytes()),
        upload: uuid::Uuid::now_v7(),
        content_type: "image/jpeg".into(),
        bytes: 1000,
        width: 640,
        height: 480,
    }
}

/// Queues jobs of one owner and of the model [`MODEL`], in this order.
pub async fn queued<const N: usize>(db: &PgPool, names: [&str; N]) -> [JobId; N] {
    let model = model_version(db, MODEL).await;
    let jobs = names.map(|name| job(&model, name));
    queue::enqueue(db, &jobs).await.unwrap();
    jobs.map(|job| job.id)
}

/// Queues one job after `change`.
pub async fn queued_with(db: &PgPool, name: &str, change: impl FnOnce(&mut NewJob)) -> JobId {
    let model = model_version(db, MODEL).await;
    let mut job = job(&model, name);
    change(&mut job);
    queue::enqueue(db, std::slice::from_ref(&job))
        .await
        .unwrap();
    job.id
}

/// Registers a worker with a lease of a minute.
pub async fn worker(db: &PgPool, name: &str) -> WorkerId {
    let registration = Registration {
        name: name.into(),
        device: "cpu test".into(),
        build: "test".into(),
        models: vec![],
    };
    queue::register(db, &registration, 60.0).await.unwrap()
}

/// A new worker claims the next job.
pub async fn claimed_by(db: &PgPool, name: &str) -> Held {
    let worker = worker(db, name).await;
    let mut claims = crate::claiming::claim(db, worker, &[], 1).await.unwrap();
    let claim = claims.pop().expect("there is no job to claim");
    Held { worker, claim }
}

/// A claimed job and its worker.
#[derive(Debug, Clone)]
pub struct Held {
    pub worker: WorkerId,
    pub claim: Claim,
}

impl Held {
    pub fn lease(&self) -> queue::Lease {
        self.claim.lease
    }

    pub fn job_id(&self) -> JobId {
        self.claim.lease.job_id
    }

    /// A success of this job with `answer` as its result.
    pub fn completion(&self, answer: &str) -> queue::Settlement {
        completion(self.claim.lease, answer)
    }
}

pub fn completion(lease: queue::Lease, answer: &str) -> queue::Settlement {
    succeeded(lease, prediction(json!({ "answer": answer })))
}

pub fn succeeded(lease: queue::Lease, prediction: queue::Prediction) -> queue::Settlement {
    queue::Settlement {
        lease,
        outcome: queue::Outcome::Succeeded(prediction),
    }
}

pub fn prediction(result: Value) -> queue::Prediction {
    queue::Prediction {
        result,
        timings: json!({ "infer": 1.5 }),
        input_warnings: vec![],
        forward_batch_size: 1,
        forward_batch_position: 0,
    }
}
