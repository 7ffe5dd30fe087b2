use actix_web::{
    FromRequest, dev,
    http::header::{CONTENT_TYPE, HeaderValue},
    test::TestRequest,
    web::{self, Bytes},
};
use clap::Parser;
use futures_util::{StreamExt, stream};

use super::{Multipart, PartHead, is_form};
use crate::{Config, http::body::BodyClock, http::error::ApiError};

type Parts = Vec<(PartHead, Vec<u8>)>;

async fn read_in_pieces(content_type: &[u8], body: &[u8], piece: usize) -> Result<Parts, ApiError> {
    let content_type = HeaderValue::from_bytes(content_type).expect("a header");
    let request = TestRequest::default().insert_header((CONTENT_TYPE, content_type));
    let request = request.to_http_request();
    assert!(is_form(&request));
    let pieces: Vec<_> = body.chunks(piece).map(Bytes::copy_from_slice).collect();
    let mut payload = dev::Payload::Stream {
        payload: stream::iter(pieces.into_iter().map(Ok)).boxed_local(),
    };
    let payload = web::Payload::from_request(&request, &mut payload).await;
    let database = ["--database-url", "postgres://nobody@localhost"];
    let config = Config::parse_from(["darkroom-api"].into_iter().chain(database));
    let clock = BodyClock::start(&config.limits);
    let mut form = Multipart::new(&request, payload.expect("a body"))?;
    let mut parts = Vec::new();
    while let Some(head) = form.next_part(&clock).await? {
        let bytes = form.read_all(&clock, 1 << 20, || unreachable!("short"));
        parts.push((head, bytes.await?));
    }
    Ok(parts)
}

/// The name, the file name and the bytes of each part, or the refusal; the same however the bytes arrive.
async fn read(
    content_type: &[u8],
    body: &[u8],
) -> Result<Vec<(String, Option<String>, Vec<u8>)>, String> {
    let whole = read_in_pieces(content_type, body, body.len().max(1)).await;
    let whole = whole.map_err(|error| error.to_string());
    for piece in [1, 2, 3, 5, 64] {
        let read = read_in_pieces(content_type, body, piece).await;
        let read = read.map_err(|error| error.to_string());
        assert_eq!(read, whole, "in pieces of {piece}");
    }
    let parts = whole?.into_iter();
    Ok(parts
        .map(|(head, bytes)| (head.name, head.file_name, bytes))
        .collect())
}

fn part(name: &str, file_name: Option<&str>, bytes: &[u8]) -> (String, Option<String>, Vec<u8>) {
    (
        name.to_owned(),
        file_name.map(str::to_owned),
        bytes.to_vec(),
    )
}

const DISPOSITION: &str = "Content-Disposition: form-data; name=\"image\"; filename=\"a\"";

#[tokio::test]
async fn a_form_of_a_browser_keeps_every_byte_of_its_files() {
    for file in [
        "",
        "\r\n",
        "\r",
        "--x",
        "\r\n-",
        "\r--x--\r\n",
        "\n--x\n",
        "\r\n\r\n--",
    ] {
        let body = format!(
            "--x\r\nContent-Disposition: form-data; name=\"job\"\r\n\r\n{{}}\r\n--x\r\n{DISPOSITION}\r\nContent-Type: image/png\r\n\r\n{file}\r\n--x--\r\n"
        );
        let read = read(b"multipart/form-data; boundary=x", body.as_bytes()).await;
        let parts = [
            part("job", None, b"{}"),
            part("image", Some("a"), file.as_bytes()),
        ];
        assert_eq!(read.as_deref(), Ok(&parts[..]), "{file:?}");
    }
}

#[tokio::test]
async fn a_form_of_javamail_is_read() {
    let body = b"------=_Part_0_17.42\r\nContent-Type: image/jpeg; \r\n\tname=\"na\xefve.jpg\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=\"image\"; \r\n\tfilename=\"na\xefve.jpg\"\r\n\r\nYWJj\r\nZGVm\r\nZw==\r\n------=_Part_0_17.42--\r\n";
    let content_type = b"multipart/form-data; boundary=----=_Part_0_17.42";
    let read = read(content_type, body).await.expect("a form");
    assert_eq!(read, [part("image", Some("na\u{ef}ve.jpg"), b"abcdefg")]);
}

#[tokio::test]
async fn a_form_of_dotnet_is_read() {
    let body = b"--a-b-c\r\nContent-Type: image/jpeg\r\nContent-Disposition: form-data; name=image; filename=cat.jpg; filename*=utf-8''cat.jpg\r\n\r\nabc\r\n--a-b-c--\r\n";
    let read = read(b"multipart/form-data; boundary=\"a-b-c\"", body).await;
    assert_eq!(
        read.expect("a form"),
        [part("image", Some("cat.jpg"), b"abc")]
    );
}

#[tokio::test]
async fn text_around_a_form_does_not_count() {
    let body = format!("preamble\r\n--x  \r\n{DISPOSITION}\r\n\r\nabc\r\n--x--\r\nepilogue");
    let read = read(b"Multipart/Form-Data; BOUNDARY=x", body.as_bytes()).await;
    assert_eq!(read.expect("a form"), [part("image", Some("a"), b"abc")]);
}

#[tokio::test]
async fn what_is_no_form_is_refused() {
    let long = "x".repeat(20_000);
    for body in [
        String::new(),
        "--x".into(),
        "--x\r\n".into(),
        "--y--\r\n".into(),
        format!("{long}\r\n--x--\r\n"),
        format!("--x\r\n{DISPOSITION}\r\n\r\nabc"),
        format!("--x\r\n{DISPOSITION}\r\n\r\nabc\r\n--x"),
        format!("--x\r\n{DISPOSITION}\r\n\r\nabc\r\n--xy--\r\n"),
        format!("--x\r\nA: {long}\r\n{DISPOSITION}\r\n\r\nabc\r\n--x--\r\n"),
        "--x\r\n\r\nabc\r\n--x--\r\n".into(),
        "--x\r\nContent-Disposition: attachment; name=image\r\n\r\nabc\r\n--x--\r\n".into(),
        format!("--x\r\n{DISPOSITION}\r\nno colon\r\n\r\nabc\r\n--x--\r\n"),
        format!(
            "--x\r\n{DISPOSITION}\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nabc\r\n--x--\r\n"
        ),
        format!("--x\r\n{DISPOSITION}\r\nContent-Transfer-Encoding: base64\r\n\r\n!\r\n--x--\r\n"),
    ] {
        let refused = read(b"multipart/form-data; boundary=x", body.as_bytes()).await;
        let refused = refused.expect_err(&body);
        assert!(refused.starts_with("invalid_request"), "{refused}");
    }
    for content_type in ["multipart/form-data", "multipart/form-data; boundary=\"\""] {
        let refused = read(content_type.as_bytes(), b"--x--\r\n").await;
        assert!(
            refused
                .expect_err("no boundary")
                .starts_with("invalid_request")
        );
    }
}
