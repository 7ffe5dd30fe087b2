//! AVIF, HEIC and JPEG XL give the labels of their JPEG twins, where an installation has these formats on.
//!
//! The files of `fixtures/formats` were coded from the photos anew, so scores differ a little (`fixtures/make_formats.py`).

use serde_json::Value;
use tests::{Stack, fixtures};

/// The files, each with the photo that it was made from.
const TWINS: [(&str, &str); 17] = [
    ("cat.avif", "cat.jpg"),
    ("cat.heic", "cat.jpg"),
    ("cat.jxl", "cat.jpg"),
    ("coffee.avif", "coffee.jpg"),
    ("coffee.heic", "coffee.jpg"),
    ("coffee.jxl", "coffee.jpg"),
    ("dahlia.avif", "dahlia.jpg"),
    ("dahlia.heic", "dahlia.jpg"),
    ("dahlia.jxl", "dahlia.jpg"),
    ("pagoda.avif", "pagoda.jpg"),
    ("pagoda.heic", "pagoda.jpg"),
    ("pagoda.jxl", "pagoda.jpg"),
    ("rocket.avif", "rocket.jpg"),
    ("rocket.heic", "rocket.jpg"),
    ("rocket.jxl", "rocket.jpg"),
    // Turned by 90 degrees in the file, and back by a viewer.
    ("turned.avif", "cat.jpg"),
    ("turned.heic", "cat.jpg"),
];

/// Largest difference of the best label's score to that of the JPEG file. Only sanity: the best labels must be equal.
const SCORE_DIFFERENCE_MAX: f64 = 0.15;

/// The formats of phones that this machine decodes.
fn decodable_formats() -> Vec<&'static str> {
    let formats = [
        ("jxl", decode::Format::Jxl),
        ("avif", decode::Format::Avif),
        ("heic", decode::Format::Heic),
    ];
    let is_decodable = |(name, format): &(&'static str, decode::Format)| {
        let missing = decode::preload(&[*format]).err();
        if let Some(missing) = &missing {
            eprintln!("{name} is not tested: {missing}");
        }
        missing.is_none()
    };
    let decodable = formats.into_iter().filter(is_decodable);
    decodable.map(|(name, _)| name).collect()
}

/// The best label of a succeeded job, and its score.
fn best(job: &Value) -> (String, f64) {
    let best = &job["result"]["labels"][0];
    let label = best["label"].as_str().unwrap();
    (label.to_owned(), best["score"].as_f64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_of_phones_give_the_labels_of_their_jpeg_twins() {
    let decodable = decodable_formats();
    let formats = format!("jpeg,{}", decodable.join(","));
    let stack = Stack::bare(&[("DARKROOM_IMAGE_TYPES", &formats)]).await;
    stack.push_models().await;
    let env = [("DARKROOM_FORMATS", formats.as_str())];
    let worker = stack.worker("w", &env).await;
    let mut faults = Vec::new();
    for (file, photo) in TWINS {
        if !decodable.iter().any(|format| file.ends_with(format)) {
            continue;
        }
        let image = fixtures::read(&format!("formats/{file}"));
        let job = stack.client.predicted("?top_k=1", image).await;
        let twin = stack
            .client
            .predicted("?top_k=1", fixtures::photo(photo))
            .await;
        let ((label, score), (wanted, wanted_score)) = (best(&job), best(&twin));
        if label != wanted || (score - wanted_score).abs() > SCORE_DIFFERENCE_MAX {
            faults.push(format!(
                "{file}: {label} {score:.3}, but {photo}: {wanted} {wanted_score:.3}"
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(worker.is_running() && stack.api.is_running());
}
