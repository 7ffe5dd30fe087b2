//! `darkroom models push --signature`, to a service that takes signed versions only.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use tests::{Stack, fixtures};

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
        STANDARD.encode([b"Ed", &self.id.to_le_bytes()[..], key].concat())
    }

    /// The content of a `.minisig` file.
    fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let signature = signature.as_ref();
        let comment = "made by a test";
        let global = self.pair.sign(&[signature, comment.as_bytes()].concat());
        let signature = [b"Ed", &self.id.to_le_bytes()[..], signature].concat();
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
