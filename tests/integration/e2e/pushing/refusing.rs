//! Pushes that are refused, and files that do not count.

use super::*;

#[tokio::test]
async fn the_store_refuses_another_file_and_the_push_still_lacks_it() {
    let stack = Stack::bare(&[]).await;
    let model = Model::new();
    let asked = post(&stack.client, &model.request()).await.json();
    let upload = &asked["uploads"][1];
    assert_eq!(upload["file"], "model.pt");
    let mut other = model.files["model.pt"].clone();
    other[100] ^= 1;
    assert_eq!(put(upload, other).await, 400, "the digest is signed");
    let mut longer = model.files["model.pt"].clone();
    longer.push(0);
    let mut with_length = upload.clone();
    with_length["headers"]["content-length"] = longer.len().to_string().into();
    assert_eq!(put(&with_length, longer).await, 403, "the length is signed");
    let again = post(&stack.client, &model.request()).await;
    assert_eq!(missing_files(&again), ["labels.txt", "model.pt"]);
}

/// A store that does not check what it is told, or a disk that lost bits.
#[tokio::test]
async fn an_object_with_other_bytes_than_its_name_says_counts_as_missing() {
    let stack = Stack::bare(&[]).await;
    let model = Model::new();
    let mut other = model.files["model.pt"].clone();
    other[100] ^= 1;
    let other = Bytes::from(other);
    let (key, digest) = (model.key("model.pt"), Sha256Digest::of(&other));
    let stored = stack
        .store
        .put(&key, Body::Memory(&other), digest, "x/y")
        .await;
    stored.unwrap();
    let asked = post(&stack.client, &model.request()).await;
    assert_eq!(missing_files(&asked), ["labels.txt", "model.pt"]);
    model.push(&stack.client, None).await;
    let sha256 = Sha256Digest::of(&model.files["model.pt"]);
    stack
        .store
        .get(&model.key("model.pt"), sha256)
        .await
        .expect("the right bytes replaced the wrong ones");
}

#[tokio::test]
async fn a_request_is_refused_with_every_mistake_and_registers_nothing() {
    let stack = Stack::bare(&[]).await;
    let right = Model::new().request();
    let mut wrong = right.clone();
    wrong["manifest"]["input"]["std"] = json!([255, 0, 255]);
    wrong["manifest"]["batch_max"] = json!(0);
    wrong["manifest"]["artifact"] = json!("../model.pt");
    wrong["files"]["labels.txt"]["bytes"] = json!(0);
    wrong["alias"] = json!("Stable");
    let problem = post(&stack.client, &wrong)
        .await
        .problem(422, "invalid_params");
    let mut pointers: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/alias",
            "/files/..~1model.pt",
            "/files/labels.txt/bytes",
            "/files/model.pt",
            "/manifest/artifact",
            "/manifest/batch_max",
            "/manifest/input/std",
        ]
    );
    let changes: [(&str, Value); 8] = [
        ("/manifest/name", json!("other")),
        ("/manifest/tasks", json!("detect")),
        ("/manifest/input/width", json!("wide")),
        ("/files/model.pt/bytes", json!(5_368_709_121_u64)),
        ("/files/model.pt/bytes", json!(-1)),
        ("/files/model.pt/bytes", json!("large")),
        ("/files/model.pt/sha256", json!("model.pt")),
        ("/files/labels.txt/bytes", json!(5_000_000)),
    ];
    for (pointer, value) in changes {
        let mut wrong = right.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        wrong.pointer_mut(parent).unwrap()[field] = value;
        let refused = post(&stack.client, &wrong).await;
        refused.problem_at(422, "invalid_params", pointer);
    }
    for without in ["bytes", "sha256"] {
        let mut wrong = right.clone();
        let file = wrong["files"]["model.pt"].as_object_mut().unwrap();
        file.remove(without);
        let refused = post(&stack.client, &wrong).await;
        refused.problem_at(422, "invalid_params", "/files/model.pt");
    }
    let no_json = stack
        .client
        .request(Method::POST, &format!("/v1/models/{MODEL}/versions"));
    send(no_json.body("model.pt"))
        .await
        .problem(400, "invalid_request");
    assert_eq!(versions(&stack).await, 0);
}

#[tokio::test]
async fn the_largest_file_is_a_setting() {
    let model = Model::new();
    let bytes_max = (model.files["model.pt"].len() - 1).to_string();
    let stack = Stack::bare(&[("DARKROOM_MODEL_FILE_BYTES_MAX", &bytes_max)]).await;
    let refused = post(&stack.client, &model.request()).await;
    refused.problem_at(422, "invalid_params", "/files/model.pt/bytes");
}

/// What the files have in them is checked as in a folder, once they are stored.
#[tokio::test]
async fn stored_files_that_do_not_fit_the_manifest_are_refused() {
    let stack = Stack::bare(&[]).await;
    let mut model = Model::new();
    model.files.insert("labels.txt", b"caf\xe9\n".to_vec());
    let asked = post(&stack.client, &model.request()).await.json();
    for upload in asked["uploads"].as_array().unwrap() {
        let bytes = &model.files[upload["file"].as_str().unwrap()];
        assert_eq!(put(upload, bytes.clone()).await, 200);
    }
    let refused = post(&stack.client, &model.request()).await;
    refused.problem_at(422, "invalid_params", "/manifest/labels");
    let mut wrong_size = Model::new().request();
    wrong_size["files"]["model.pt"]["bytes"] = json!(1);
    let refused = post(&stack.client, &wrong_size).await;
    refused.problem_at(422, "invalid_params", "/files/model.pt/bytes");
    assert_eq!(versions(&stack).await, 0);
}

#[tokio::test]
async fn only_a_key_with_the_scope_admin_may_push() {
    let stack = Stack::bare(&[]).await;
    let others = [Scope::Submit, Scope::Read, Scope::Webhooks, Scope::Operate];
    let client = stack.client_of(given::OWNER, &others).await;
    let request = Model::new().request();
    post(&client, &request).await.problem(403, "forbidden");
    let keyless = stack.client_with(None);
    post(&keyless, &request).await.problem(401, "unauthorized");
}
