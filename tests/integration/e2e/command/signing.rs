//! `darkroom models push --signature`, to a service that takes signed versions only.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::models::{self, ModelFolder, VersionState};
use ring::signature::{Ed25519KeyPair, KeyPair};
use tests::{Stack, eventually, fixtures};

use super::{expect_exit, log};

const MODEL: &str = "bright-box";

/// A key pair that signs in the format of minisign.
struct Signer {
    id: u64,
    pair: Ed25519KeyPair,
}

impl Signer {
    fn new(id: u64) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[id as u8; 32]).unwrap();
        Self { id, pair }
    }

    /// As in the second line of `minisign.pub`.
    fn public_key(&self) -> String {
        let key = self.pair.public_key().as_ref();
        STANDARD.encode([&b"Ed"[..], &self.id.to_le_bytes(), key].concat())
    }

    /// The content of a `.minisig` file.
    fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let signature = signature.as_ref();
        let comment = "made by a test";
        let global = self.pair.sign(&[signature, comment.as_bytes()].concat());
        let signature = [&b"Ed"[..], &self.id.to_le_bytes(), signature].concat();
        format!(
            "untrusted comment: none\n{}\ntrusted comment: {comment}\n{}\n",
            STANDARD.encode(signature),
            STANDARD.encode(global.as_ref())
        )
    }
}

#[tokio::test]
async fn only_a_version_signed_by_a_trusted_key_can_be_pushed() {
    let (trusted, stranger) = (Signer::new(0x4F67_F6B1_7076_0DE5), Signer::new(7));
    let keys = format!("{},{}", Signer::new(1).public_key(), trusted.public_key());
    let stack = Stack::bare(&[("DARKROOM_MODEL_PUBLIC_KEYS", &keys)]).await;
    let folder = fixtures::folder().join("tasks").join(MODEL);
    let folder = folder.to_str().unwrap();
    let statement = expect_exit(&stack, 0, &["models", "statement", folder]).await;
    assert!(statement.contains(MODEL), "{statement}");

    let signatures = tempfile::tempdir().unwrap();
    let push = async |signature: Option<String>| {
        let mut args = vec!["models", "push", "--no-trial", folder];
        let path = signatures.path().join("statement.minisig");
        if let Some(signature) = signature {
            std::fs::write(&path, signature).unwrap();
            args.extend(["--signature", path.to_str().unwrap()]);
        }
        let pushed = stack.command(&args).await;
        (pushed.status.code(), log(&pushed))
    };
    for (signature, why) in [
        (None, "only signed versions are taken here"),
        (
            Some(stranger.sign(&statement)),
            "by a key that is not trusted here",
        ),
        (
            Some(trusted.sign("another text")),
            "does not fit this version",
        ),
        (Some("nonsense".into()), "no signature of minisign"),
    ] {
        let (code, said) = push(signature).await;
        assert_eq!(code, Some(4), "{why}: {said}");
        assert!(said.contains(why), "{said}");
    }
    let versions = "select count(*) from ops.models";
    let versions: i64 = sqlx::query_scalar(versions)
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert_eq!(versions, 0);

    let (code, said) = push(Some(trusted.sign(&statement))).await;
    assert_eq!(code, Some(0), "{said}");
    let signed_by: String = sqlx::query_scalar(
        "select concat_ws(' ', m.signed_by, a.arguments ->> 'signed_by') from ops.models m, ops.audit a where a.verb = 'push_version'",
    )
    .fetch_one(&*stack.db)
    .await
    .unwrap();
    assert_eq!(signed_by, "4F67F6B170760DE5 4F67F6B170760DE5");
}

/// Waits until the version with this number of a model is no longer validating; returns its state and the cause.
async fn verdict(stack: &Stack, model: &str, version: i32) -> (String, String) {
    eventually(Duration::from_mins(1), "a verdict", || async {
        let state = "select state, coalesce(state_cause, '') from ops.models where name = $1 and version = $2";
        let state = sqlx::query_as(state).bind(model).bind(version);
        let (state, cause): (String, String) = state.fetch_one(&*stack.db).await.unwrap();
        (state != "validating").then_some((state, cause))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_runs_no_version_that_was_registered_past_the_check() {
    let signer = Signer::new(5);
    let keys = ("DARKROOM_MODEL_PUBLIC_KEYS", &*signer.public_key());
    let stack = Stack::bare(&[keys]).await;
    let _worker = stack.worker("w", &[keys]).await;

    // As a program with the credentials of Postgres and S3 does.
    let unsigned = ModelFolder::read(&fixtures::folder().join("tasks/brightness")).unwrap();
    let pushed = models::push(&stack.db, &stack.store, &unsigned, None, true).await;
    assert_eq!(pushed.unwrap().state, VersionState::Validating);
    let (state, cause) = verdict(&stack, "brightness", 1).await;
    assert_eq!(state, "rejected");
    assert!(cause.contains("only signed versions"), "{cause}");

    let folder = fixtures::folder().join("tasks").join(MODEL);
    let folder = folder.to_str().unwrap();
    let statement = expect_exit(&stack, 0, &["models", "statement", folder]).await;
    let signatures = tempfile::tempdir().unwrap();
    let path = signatures.path().join("statement.minisig");
    std::fs::write(&path, signer.sign(&statement)).unwrap();
    let path = path.to_str().unwrap();
    // Waits for the verdict of the worker.
    expect_exit(&stack, 0, &["models", "push", folder, "--signature", path]).await;

    let forged = "with forged as (
                      insert into model_versions (model_id, version, digest, task, manifest, files, signature, signed_by, state)
                      select model_id, 2, sha256('forged'), task, jsonb_set(manifest, '{source}', '\"forged\"'), files, signature, signed_by, 'validating'
                      from model_versions join models using (model_id) where name = $1
                  )
                  select pg_notify('darkroom_trials', '')::text";
    let forged = sqlx::query(forged).bind(MODEL);
    forged.execute(&*stack.db).await.unwrap();
    let (state, cause) = verdict(&stack, MODEL, 2).await;
    assert_eq!(state, "rejected");
    assert!(cause.contains("does not fit this version"), "{cause}");
}
