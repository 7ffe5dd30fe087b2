//! The results of each task are right in pixels of the upright image, for every shape and every EXIF orientation.

use image::{GrayImage, Rgb, RgbImage};
use serde_json::{Value, json};
use tests::{
    Answer, Stack,
    client::send,
    fixtures,
    scene::{Scene, jpeg_with_orientation, png},
};

/// Width and height of the model input of the fixtures.
const INPUT_SIDE_PX: f64 = 64.0;

async fn stack_with(models: &[&str]) -> Stack {
    let stack = Stack::bare(&[]).await;
    for model in models {
        stack.push(&format!("tasks/{model}")).await;
    }
    stack
}

/// Scenes of many shapes and sizes, each in every EXIF orientation, as `(scene, JPEG)`.
fn scenes() -> Vec<(Scene, Vec<u8>)> {
    let shapes = [(96, 64), (61, 97), (640, 480), (300, 1200), (200, 40)];
    let in_every_orientation = |(width, height)| {
        let scene = Scene::new(width, height);
        (1..=8).map(move |orientation| (scene, jpeg_with_orientation(&scene.image(), orientation)))
    };
    shapes.into_iter().flat_map(in_every_orientation).collect()
}

/// Submits all images at once. Returns the succeeded jobs in order.
async fn predict_all(
    stack: &Stack,
    query: &str,
    images: impl Iterator<Item = &Vec<u8>>,
) -> Vec<Value> {
    let mut ids = Vec::new();
    for image in images {
        ids.push(stack.client.submit(query, image.clone()).await["id"].clone());
    }
    let mut jobs = Vec::new();
    for id in ids {
        let job = stack.client.ended(id.as_str().unwrap()).await;
        assert_eq!(job["status"], "succeeded", "{job:#}");
        jobs.push(job);
    }
    jobs
}

/// The object in the bucket to which `GET …/result` redirects, read without a key.
async fn object(stack: &Stack, job: &Value) -> Answer {
    let path = job["urls"]["result"].as_str().unwrap();
    let answer = stack.client.get(path).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let read = reqwest::Client::new().get(answer.header("location").unwrap());
    let object = send(read).await;
    assert_eq!(object.status, 200, "{}", object.text());
    object
}

async fn mask(stack: &Stack, job: &Value) -> GrayImage {
    let object = object(stack, job).await;
    assert_eq!(object.header("content-type"), Some("image/png"));
    image::load_from_memory(&object.body).unwrap().into_luma8()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_surrounds_its_object_in_the_upright_image() {
    let stack = stack_with(&["bright-box"]).await;
    let _worker = stack.worker("w", &[]).await;
    let scenes = scenes();
    let jobs = predict_all(&stack, "", scenes.iter().map(|(_, jpeg)| jpeg)).await;
    for ((scene, _), job) in scenes.iter().zip(&jobs) {
        let boxes = job["result"]["boxes"].as_array().unwrap();
        assert_eq!(
            boxes.len(),
            1,
            "the weaker box overlaps and is dropped: {job:#}"
        );
        assert_eq!(
            (&boxes[0]["label"], &boxes[0]["score"]),
            (&json!("bright"), &json!(0.9))
        );
        let side = |name: &str| boxes[0][name].as_f64().unwrap();
        let (x, y) = (side("x"), side("y"));
        let found = [x, y, x + side("width"), y + side("height")];
        // One pixel of the model's input, in pixels of the image.
        let tolerance = (f64::from(scene.width.max(scene.height)) / INPUT_SIDE_PX).max(1.0) + 0.5;
        for (found, drawn) in found.iter().zip(scene.bright) {
            let off = (found - f64::from(drawn)).abs();
            assert!(off <= tolerance, "{off} pixels off: {found} of {scene:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn threshold_and_max_boxes_limit_the_boxes_of_a_job() {
    let stack = stack_with(&["bright-box"]).await;
    let _worker = stack.worker("w", &[]).await;
    let scene = png(&Scene::new(80, 80).image());
    for (query, count) in [("?threshold=0.95", 0), ("?threshold=0.2&max_boxes=1", 1)] {
        let job = stack.client.predicted(query, scene.clone()).await;
        assert_eq!(
            job["result"]["boxes"].as_array().unwrap().len(),
            count,
            "{job:#}"
        );
    }
    let dark = png(&RgbImage::new(80, 80));
    let job = stack.client.predicted("", dark).await;
    assert_eq!(job["result"], json!({"boxes": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_covers_its_object_in_the_upright_image() {
    let stack = stack_with(&["bright-mask"]).await;
    let _worker = stack.worker("w", &[]).await;
    let scenes = scenes();
    let jobs = predict_all(&stack, "", scenes.iter().map(|(_, jpeg)| jpeg)).await;
    for ((scene, _), job) in scenes.iter().zip(&jobs) {
        let result = &job["result"];
        assert_eq!(result["mask_url"], job["urls"]["result"]);
        assert_eq!(result["width"], scene.width);
        assert_eq!(result["height"], scene.height);
        assert!(result.get("object_key").is_none(), "{result:#}");
        let labels: Vec<_> = result["classes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|class| &class["label"])
            .collect();
        assert_eq!(labels, ["dark", "bright"]);
        assert!(job["timings_ms"]["store"].as_f64().unwrap() > 0.0);
        let mask = mask(&stack, job).await;
        assert_eq!(mask.dimensions(), (scene.width, scene.height));
        // One cell of the mask (two pixels of the model's input), in pixels of the image.
        let unsure = (f64::from(scene.width.max(scene.height)) / INPUT_SIDE_PX).max(1.0) * 2.0;
        for (x, y, class) in mask.enumerate_pixels() {
            let depth = depth(scene, x, y);
            if depth.abs() > unsure {
                assert_eq!(class.0[0], u8::from(depth > 0.0), "{x}, {y} of {scene:?}");
            }
        }
    }
}

/// Distance of a pixel in the bright rectangle from the nearest edge, in pixels; negative outside.
fn depth(scene: &Scene, x: u32, y: u32) -> f64 {
    let [left, top, right, bottom] = scene.bright.map(f64::from);
    let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
    [x - left, right - x, y - top, bottom - y]
        .into_iter()
        .fold(f64::INFINITY, f64::min)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_shows_classes_and_pixels_outside_the_crop() {
    let stack = stack_with(&["light-classes"]).await;
    let _worker = stack.worker("w", &[]).await;
    // The center crop is the columns from 15 to 75.
    let image = RgbImage::from_fn(90, 60, |x, _| match x {
        0..35 => Rgb([0; 3]),
        35..55 => Rgb([128; 3]),
        _ => Rgb([255; 3]),
    });
    let job = stack.client.predicted("", png(&image)).await;
    let mask = mask(&stack, &job).await;
    let classes = [5, 25, 45, 65, 85].map(|x| mask.get_pixel(x, 30).0[0]);
    assert_eq!(classes, [255, 0, 1, 2, 255]);
    let classes = job["result"]["classes"].as_array().unwrap();
    let labels: Vec<_> = classes.iter().map(|class| &class["label"]).collect();
    assert_eq!(labels, ["dark", "middle", "bright"]);
    let pixels: u64 = classes
        .iter()
        .map(|class| class["pixels"].as_u64().unwrap())
        .sum();
    assert_eq!(pixels, 60 * 60, "the pixels in the crop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_regress_result_has_its_unit_and_a_raw_result_its_shape() {
    let stack = stack_with(&["brightness", "tiles"]).await;
    let _worker = stack.worker("w", &[]).await;
    let gray = RgbImage::from_pixel(50, 20, Rgb([51; 3]));
    let job = stack
        .client
        .predicted("?model=brightness", png(&gray))
        .await;
    assert_eq!(job["result"]["unit"], "of white");
    assert!(
        (job["result"]["value"].as_f64().unwrap() - 0.2).abs() < 1e-6,
        "{job:#}"
    );

    // Two rows of three tiles, each of its own gray.
    let grays = [[0, 51, 102], [153, 204, 255]];
    let tiles = RgbImage::from_fn(384, 128, |x, y| {
        Rgb([grays[(y / 64) as usize][(x / 128) as usize]; 3])
    });
    for orientation in [1, 6] {
        let jpeg = jpeg_with_orientation(&tiles, orientation);
        let job = stack.client.predicted("?model=tiles", jpeg).await;
        assert_eq!(job["result"]["shape"], json!([2, 3]));
        let data = job["result"]["data"].as_array().unwrap();
        for (value, gray) in data.iter().zip(grays.concat()) {
            let off = (value.as_f64().unwrap() - f64::from(gray) / 255.0).abs();
            assert!(off < 0.02, "{value} for {gray}, orientation {orientation}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_names_its_precision_if_another_than_the_default() {
    let stack = stack_with(&["brightness"]).await;
    let image = png(&RgbImage::from_pixel(9, 9, Rgb([51; 3])));
    for (choice, expected) in [("bf16", json!("bf16")), ("fp32", json!(null))] {
        let worker = stack
            .worker(choice, &[("DARKROOM_PRECISION", choice)])
            .await;
        let job = stack.client.predicted("", image.clone()).await;
        assert_eq!(job["result"]["precision"], expected, "{job:#}");
        assert!((job["result"]["value"].as_f64().unwrap() - 0.2).abs() < 0.01);
        drop(worker);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_too_large_for_its_row_is_stored_as_an_object() {
    let stack = stack_with(&["tiles"]).await;
    let _worker = stack
        .worker("w", &[("DARKROOM_RESULT_INLINE_BYTES_MAX", "20")])
        .await;
    let image = png(&RgbImage::from_pixel(9, 9, Rgb([255; 3])));
    let job = stack.client.predicted("", image).await;
    let object = object(&stack, &job).await;
    assert_eq!(
        object.json(),
        json!({"shape": [2, 3], "data": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]})
    );
    assert_eq!(
        job["result"],
        json!({"url": job["urls"]["result"], "bytes": object.body.len()})
    );
    assert_eq!(object.header("content-type"), Some("application/json"));
}

/// The prediction cache does not answer with such a result.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_the_store_lost_is_told_and_made_again() {
    let stack = stack_with(&["bright-mask"]).await;
    let _worker = stack.worker("w", &[]).await;
    let image = png(&Scene::new(40, 30).image());
    let job = stack.client.predicted("", image.clone()).await;
    object(&stack, &job).await;
    for lost in stack.store.list("results/", "", 10).await.unwrap() {
        stack.store.delete(&lost.key).await.unwrap();
    }
    let path = job["urls"]["result"].as_str().unwrap();
    stack.client.get(path).await.problem(410, "data_purged");
    let submit = async || {
        let request = stack
            .client
            .plain_request(reqwest::Method::POST, "/v1/jobs");
        send(request.body(image.clone())).await.json()
    };
    let again = submit().await;
    assert_eq!(again["cache"], "miss", "{again:#}");
    let again = stack.client.ended(again["id"].as_str().unwrap()).await;
    object(&stack, &again).await;
    let hit = submit().await;
    assert_eq!((&hit["cache"], &hit["id"]), (&json!("hit"), &again["id"]));
}

/// A delete of the job purges its result, and the object leaves the bucket.
#[tokio::test(flavor = "multi_thread")]
async fn the_mask_of_a_deleted_job_is_collected() {
    let stack = stack_with(&["bright-mask"]).await;
    let _worker = stack.worker("w", &[]).await;
    let job = stack
        .client
        .predicted("", png(&Scene::new(40, 30).image()))
        .await;
    let objects = || async { stack.store.list("results/", "", 10).await.unwrap() };
    assert_eq!(objects().await.len(), 1);
    let path = job["urls"]["self"].as_str().unwrap();
    let deleted = send(stack.client.request(reqwest::Method::DELETE, path)).await;
    assert_eq!(deleted.status, 204);
    let result = stack
        .client
        .get(job["urls"]["result"].as_str().unwrap())
        .await;
    result.problem(410, "data_purged");
    assert_eq!(
        jobs::results::collect(&stack.db, &stack.store)
            .await
            .unwrap(),
        1
    );
    assert!(objects().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_reports_all_mistakes_of_the_manifest() {
    let stack = Stack::bare(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let source = fixtures::folder().join("tasks/bright-box");
    for file in ["model.pt", "labels.txt"] {
        std::fs::copy(source.join(file), folder.path().join(file)).unwrap();
    }
    let push = async |manifest: &Value| {
        let text = serde_json::to_vec(manifest).unwrap();
        std::fs::write(folder.path().join("model.json"), text).unwrap();
        let folder = folder.path().to_str().unwrap();
        stack
            .command(&["models", "push", "--no-trial", folder])
            .await
    };
    let right = fixtures::json("tasks/bright-box/model.json");
    let mut wrong = right.clone();
    wrong["output"] = json!({});
    wrong["input"]["std"] = json!([255, 255, 0]);
    wrong["params"]["top_k"] = json!({"type": "integer", "default": 5});
    let refused = push(&wrong).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let message = String::from_utf8(refused.stderr).unwrap();
    for field in ["output.boxes: is missing", "input.std: ", "params.top_k: "] {
        assert!(message.contains(field), "no {field} in: {message}");
    }
    let mut typo = right.clone();
    typo["output"]["boxes"]["collumns"] = json!([]);
    let refused = push(&typo).await;
    let message = String::from_utf8(refused.stderr).unwrap();
    let detail = "output.boxes.collumns: is unknown; did you mean `columns`?";
    assert!(message.contains(detail), "{message}");
    let mut small = right.clone();
    small["input"]["mean"] = json!([0.5, 0.5, 0.5]);
    small["input"]["std"] = json!([0.5, 0.5, 0.5]);
    let warned = push(&small).await;
    assert!(warned.status.success(), "{warned:?}");
    let message = String::from_utf8(warned.stderr).unwrap();
    assert!(message.contains("warning: input.std: "), "{message}");
    assert!(push(&right).await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_with_an_output_of_another_task_fails_its_jobs_but_not_the_worker() {
    let stack = stack_with(&["brightness"]).await;
    let folder = tempfile::tempdir().unwrap();
    let source = fixtures::folder().join("tasks/tiles");
    std::fs::copy(source.join("model.pt"), folder.path().join("model.pt")).unwrap();
    let mut manifest = fixtures::json("tasks/tiles/model.json");
    manifest["name"] = json!("six-numbers");
    manifest["task"] = json!("regress");
    let text = serde_json::to_vec(&manifest).unwrap();
    std::fs::write(folder.path().join("model.json"), text).unwrap();
    stack.push(folder.path().to_str().unwrap()).await;
    let worker = stack.worker("w", &[]).await;
    let image = png(&RgbImage::new(4, 4));
    let id = stack
        .client
        .submit("?model=six-numbers", image.clone())
        .await["id"]
        .clone();
    let job = stack.client.ended(id.as_str().unwrap()).await;
    assert_eq!(job["status"], "failed");
    assert_eq!(job["error"]["code"], "model_error", "{job:#}");
    stack.client.predicted("?model=brightness", image).await;
    assert!(worker.is_running());
}
