use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Parser;
use jobs::Sha256Digest;

use super::{JobJson, SplitJob};
use crate::{Config, config::Limits};

fn limits() -> Limits {
    let database = ["--database-url", "postgres://nobody@localhost"];
    Config::parse_from(["darkroom-api"].into_iter().chain(database)).limits
}

/// The head of a PNG, and bytes behind it.
fn png(bytes: usize) -> Vec<u8> {
    let mut png =
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\0\0\0\x01\0\x08\x02\0\0\0\0\0\0\0".to_vec();
    png.resize(bytes, 0xfb);
    png
}

/// The text that is kept, and the digest of the image or its refusal. The same however the bytes arrive.
fn split(json: &str) -> (String, Option<Result<Sha256Digest, String>>) {
    let limits = limits();
    let in_pieces = |piece: usize| {
        let mut job = JobJson::new(&limits);
        for piece in json.as_bytes().chunks(piece) {
            assert_eq!(job.push(piece), piece.len(), "{json}");
        }
        let SplitJob { text, image, .. } = job.finish();
        let image = image.map(|image| match image {
            Ok(upload) => Ok(upload.image.sha256),
            Err(error) => Err(error.to_string()),
        });
        (String::from_utf8(text).expect("text"), image)
    };
    let whole = in_pieces(json.len().max(1));
    for piece in [1, 2, 3, 7] {
        assert_eq!(in_pieces(piece), whole, "{json} in pieces of {piece}");
    }
    whole
}

#[test]
fn the_image_leaves_the_json_wherever_it_stands() {
    let (png, data) = (png(300), STANDARD.encode(png(300)));
    let digest = Some(Ok(Sha256Digest::of(&png)));
    for (before, after) in [
        (r#"{"image":{"data":""#, r#""}}"#),
        (r#"{"im\u0061ge":{"\u0064ata":""#, r#""}}"#),
        (r#" { "priority" : 1, "image" : { "data" : ""#, "\" } }\n"),
        (
            r#"{"metadata":{"image":{"data":"x"}},"image":{"data":""#,
            r#""},"params":{"a":["}"]}}"#,
        ),
        (
            r#"{"metadata":{"a":"{\"image\":{"},"image":{"url":null,"data":""#,
            r#""}}"#,
        ),
    ] {
        let (text, image) = split(&format!("{before}{data}{after}"));
        assert_eq!((text, image), (format!("{before}{after}"), digest.clone()));
    }
}

#[test]
fn the_base64_may_be_escaped_and_wrapped() {
    let (png, data) = (png(301), STANDARD.encode(png(301)));
    assert!(['/', '+', '='].iter().all(|digit| data.contains(*digit)));
    let wrapped = |end: &str| {
        let lines = data.as_bytes().chunks(76);
        let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned() + end);
        lines.collect::<String>()
    };
    for data in [
        data.replace('/', r"\/"),
        data.replace('+', r"\u002B").replace('=', r"\u003d"),
        wrapped(r"\n"),
        wrapped(r"\r\n"),
        wrapped("\n"),
        format!(r"data:image\/png;base64,{data}"),
    ] {
        let (text, image) = split(&format!(r#"{{"image":{{"data":"{data}"}}}}"#));
        assert_eq!(text, r#"{"image":{"data":""}}"#);
        assert_eq!(image, Some(Ok(Sha256Digest::of(&png))), "{data}");
    }
}

#[test]
fn what_is_no_image_of_the_job_stays_in_the_json() {
    for json in [
        "",
        "null",
        r#"{"data":"QUJD"}"#,
        r#"{"image":"QUJD"}"#,
        r#"{"image":["data","QUJD"]}"#,
        r#"[{"image":{"data":"QUJD"}}]"#,
        r#"{"image":{"a":{"data":"QUJD"}}}"#,
        r#"{"image":{"data":["QUJD"]}}"#,
        r#"{"image":{"data" "QUJD"}}"#,
        r#"{"params":{"data":"QUJD"},"image":{"sha256":"ab"}}"#,
        r#"}}{"image":{"url":"\"data\":\"QUJD\"#,
    ] {
        assert_eq!(split(json), (json.to_owned(), None));
    }
}

#[test]
fn a_refused_image_leaves_valid_json() {
    for (data, refusal) in [
        ("not base64!", "invalid_params"),
        (r"\ud83d\ude00", "invalid_params"),
        (r"QUJD\u00", "invalid_params"),
        (r"QUJD\q", "invalid_params"),
        ("", "invalid_request"),
        (
            "bm8gaW1hZ2UgYXQgYWxsLCBqdXN0IGEgdGV4dA==",
            "unsupported_media_type",
        ),
    ] {
        let (text, image) = split(&format!(r#"{{"image":{{"data":"{data}"}}}}"#));
        assert_eq!(text, r#"{"image":{"data":""}}"#);
        let image = image.expect("there is one").expect_err("refused");
        assert!(image.starts_with(refusal), "{data}: {image}");
    }
}

/// The last one would win in the parsed job, and the first one is in the spool.
#[test]
fn an_image_that_is_given_twice_is_refused() {
    for json in [
        r#"{"image":{"data":"QUJD","data":"QUJD"}}"#,
        r#"{"image":{"data":"QUJD"},"image":{"data":"QUJD"}}"#,
        r#"{"image":{"data":"QUJD"},"\u0069mage":{"url":"QUJD"}}"#,
    ] {
        let image = split(json).1.expect("there is one");
        let refusal = image.expect_err("refused");
        assert!(refusal.starts_with("invalid_params"), "{refusal}");
    }
}

/// 26 MB of JSON that is no image were a tree of 2.5 GB.
#[test]
fn json_without_an_image_is_refused_before_it_is_large() {
    let limits = limits();
    let many = format!(
        r#"{{"priority":1,"metadata":{{"a":[{}"#,
        "0,".repeat(500_000)
    );
    let text = format!(
        r#"{{"params":{{"image":{{"data":"{}"#,
        "QUJD".repeat(500_000)
    );
    for (json, pointer) in [
        (many, "invalid_params"),
        (text, "invalid_params"),
        ("[".repeat(1_000_000), "invalid_request"),
    ] {
        let mut job = JobJson::new(&limits);
        let taken = job.push(json.as_bytes());
        assert_eq!(taken, limits.job_bytes_max * 2);
        assert!(job.held_bytes() <= limits.job_bytes_max * 2);
        assert!(job.too_long().to_string().starts_with(pointer));
    }
}

#[test]
fn a_large_image_is_not_held_in_memory_as_text() {
    let limits = limits();
    let mut job = JobJson::new(&limits);
    job.push(br#"{"image":{"data":""#);
    let png = png(3_000_000);
    for piece in STANDARD.encode(&png).as_bytes().chunks(32 << 10) {
        assert_eq!(job.push(piece), piece.len());
        assert!(job.text.capacity() < 1000);
    }
    job.push(br#""}}"#);
    let image = job.finish().image.expect("there is one").expect("a PNG");
    assert_eq!(image.image.bytes, 3_000_000);
    assert!(image.is_in_file());
}
