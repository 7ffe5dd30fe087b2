//! Models that take a list of images, or answer with a tuple, a list or a dict, are served by their manifest alone.

use image::{Luma, Rgb, RgbImage};
use tests::{Stack, scene::png};

/// A picture of 64 × 64 pixels. The bits of `tiles` say which of its four tiles are white.
fn tiles(tiles: u32) -> RgbImage {
    RgbImage::from_fn(64, 64, |x, y| {
        let tile = (y / 32) * 2 + x / 32;
        Rgb([if tiles >> tile & 1 == 1 { 255 } else { 0 }; 3])
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_image_gets_its_own_boxes_from_a_model_that_takes_a_list() {
    let stack = Stack::bare(&[]).await;
    stack.push("operators/bright-tiles").await;
    let _worker = stack.worker("w", &[]).await;
    let mut ids = Vec::new();
    for number in 0..16 {
        ids.push(stack.client.submit("", png(&tiles(number))).await["id"].clone());
    }
    for (number, id) in (0..16_u32).zip(ids) {
        let job = stack.client.ended(id.as_str().unwrap()).await;
        assert_eq!(job["status"], "succeeded", "{job:#}");
        let boxes = job["result"]["boxes"].as_array().unwrap().iter();
        let sides = ["x", "y", "width", "height", "score", "index"];
        let found: Vec<_> = boxes
            .map(|found| sides.map(|side| found[side].as_f64().unwrap()))
            .collect();
        let white = (0..4_u32).filter(|tile| number >> tile & 1 == 1);
        let white = white.map(|tile| [tile % 2 * 32, tile / 2 * 32, 32, 32, 1, 2].map(f64::from));
        assert_eq!(found, white.collect::<Vec<_>>(), "{number}: {job:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_is_made_of_an_output_in_a_dict() {
    let stack = Stack::bare(&[]).await;
    stack.push("operators/bright-planes").await;
    let _worker = stack.worker("w", &[]).await;
    let job = stack.client.predicted("", png(&tiles(0b0110))).await;
    let answer = stack
        .client
        .get(job["urls"]["result"].as_str().unwrap())
        .await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let object = reqwest::get(answer.header("location").unwrap())
        .await
        .unwrap();
    let mask = object.bytes().await.unwrap();
    let mask = image::load_from_memory(&mask).unwrap().into_luma8();
    let classes = [(16, 16), (48, 16), (16, 48), (48, 48)].map(|(x, y)| *mask.get_pixel(x, y));
    assert_eq!(classes, [Luma([0]), Luma([2]), Luma([2]), Luma([0])]);
}
