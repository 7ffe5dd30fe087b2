//! An S3 server for one test, which can behave as other stores do.

use local::{Credentials, S3, S3Options};
use serde_json::Value;
use tempfile::TempDir;

/// A running server. Dropping it kills the server.
#[derive(Debug)]
pub struct OwnStore {
    s3: S3,
    folder: TempDir,
}

impl OwnStore {
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("darkroom-store-")
            .tempdir()
            .unwrap();
        let s3 = S3::start(S3Options {
            data: folder.path().join("objects"),
            log: folder.path().join("s3.log"),
            port: None,
            credentials: Credentials::generate(),
            program: local::bin_dir().unwrap().join("darkroom-local"),
        });
        let s3 = s3.await.unwrap();
        Self { s3, folder }
    }

    /// Changes how the server behaves, from the next request on: `quirks.rs` of the server has the fields.
    pub fn behave(&self, quirks: &Value) {
        let objects = self.folder.path().join("objects");
        // The server reads the file at each request, so it must never be half written.
        let draft = self.folder.path().join("quirks.json");
        std::fs::write(&draft, quirks.to_string()).unwrap();
        std::fs::rename(draft, objects.join("quirks.json")).unwrap();
    }

    /// Variables of a program that uses this server, and makes its bucket there.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let mut env = self.s3.env();
        env.push(("DARKROOM_S3_CREATE_BUCKET", "true".into()));
        env
    }

    pub fn endpoint(&self) -> String {
        self.s3.endpoint()
    }
}
