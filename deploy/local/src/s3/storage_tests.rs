#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;

use super::*;

fn storage() -> (tempfile::TempDir, Storage) {
    let root = tempfile::tempdir().unwrap();
    let storage = Storage::open(&root.path().join("data")).unwrap();
    storage.create_bucket("photos").unwrap();
    (root, storage)
}

fn put(storage: &Storage, object: NewObject, body: &[u8]) -> Result<Description, StorageError> {
    let mut upload = storage.begin().unwrap();
    upload.write(&[body]).unwrap();
    storage.commit(upload, "photos", object)
}

fn named(key: &str) -> NewObject {
    NewObject {
        key: key.into(),
        ..NewObject::default()
    }
}

fn body(storage: &Storage, key: &str) -> Option<Vec<u8>> {
    let (description, file) = storage.open_object("photos", key).unwrap()?;
    let mut body = Vec::new();
    file.take(description.size_bytes)
        .read_to_end(&mut body)
        .unwrap();
    Some(body)
}

/// Every file below `folder`, as paths.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn an_object_comes_back_as_it_went_in() {
    let (_root, storage) = storage();
    let mut cat = named("cats/1.jpg");
    cat.content_type = Some("image/jpeg".into());
    let written = put(&storage, cat, b"purr").unwrap();
    let (read, _) = storage
        .open_object("photos", "cats/1.jpg")
        .unwrap()
        .unwrap();
    assert_eq!(read, written);
    assert_eq!(body(&storage, "cats/1.jpg").unwrap(), b"purr");
    storage.delete("photos", "cats/1.jpg").unwrap();
    assert_eq!(body(&storage, "cats/1.jpg"), None);
}

#[test]
fn a_key_with_dots_stays_inside_its_bucket() {
    let (root, storage) = storage();
    for key in [
        "../../escaped",
        "..",
        "/etc/escaped",
        "a/../../../escaped",
        "nul\0",
    ] {
        put(&storage, named(key), b"x").unwrap();
        assert_eq!(body(&storage, key).unwrap(), b"x");
    }
    let bucket = root.path().join("data/buckets/photos");
    assert_eq!(files(root.path()).len(), 5);
    assert!(
        files(root.path())
            .iter()
            .all(|file| file.parent() == Some(&bucket))
    );
}

#[test]
fn a_bucket_with_dots_or_slashes_does_not_exist() {
    let (_root, storage) = storage();
    for bucket in ["..", ".", "", "a/b", "../photos", "Photos"] {
        assert!(matches!(
            storage.create_bucket(bucket),
            Err(StorageError::NoSuchBucket(_))
        ));
    }
}

#[test]
fn an_upload_cut_short_leaves_nothing() {
    let (root, storage) = storage();
    let mut upload = storage.begin().unwrap();
    upload.write(&[b"half of it".as_slice()]).unwrap();
    drop(upload);
    assert_eq!(files(root.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_wrong_checksum_is_refused_and_the_old_object_stays() {
    let (root, storage) = storage();
    put(&storage, named("cat.jpg"), b"old").unwrap();
    let mut lie = named("cat.jpg");
    lie.sha256_expected = Some(hex::encode(Sha256::digest(b"other bytes")));
    assert!(matches!(
        put(&storage, lie, b"new"),
        Err(StorageError::WrongChecksum)
    ));
    assert_eq!(body(&storage, "cat.jpg").unwrap(), b"old");
    assert_eq!(files(root.path()).len(), 1);
}

#[test]
fn only_one_of_two_conditional_uploads_wins() {
    let (_root, storage) = storage();
    let first = NewObject {
        only_if_absent: true,
        ..named("cat.jpg")
    };
    let second = NewObject {
        only_if_absent: true,
        ..named("cat.jpg")
    };
    put(&storage, first, b"first").unwrap();
    assert!(matches!(
        put(&storage, second, b"second"),
        Err(StorageError::Exists)
    ));
    assert_eq!(body(&storage, "cat.jpg").unwrap(), b"first");
}

#[test]
fn uploads_of_a_killed_process_are_thrown_away_and_objects_stay() {
    let (root, storage) = storage();
    put(&storage, named("cat.jpg"), b"purr").unwrap();
    let mut upload = storage.begin().unwrap();
    upload.write(&[b"half of it".as_slice()]).unwrap();
    std::mem::forget(upload); // what kill -9 leaves
    let storage = Storage::open(&root.path().join("data")).unwrap();
    assert_eq!(files(root.path()).len(), 1);
    assert_eq!(body(&storage, "cat.jpg").unwrap(), b"purr");
}

#[test]
fn a_listing_is_by_key_and_prefix() {
    let (_root, storage) = storage();
    for key in ["b/2", "a/1", "b/1"] {
        put(&storage, named(key), b"x").unwrap();
    }
    let keys = |prefix| -> Vec<String> {
        storage
            .list("photos", prefix)
            .unwrap()
            .into_iter()
            .map(|object| object.key)
            .collect()
    };
    assert_eq!(keys(""), ["a/1", "b/1", "b/2"]);
    assert_eq!(keys("b/"), ["b/1", "b/2"]);
}
