//! Fetches an image by its URL. It happens at submit; later changes at the URL do not matter.

use std::time::Duration;

use jobs::ProblemCode;
use reqwest::{Response, StatusCode, Url, header};
use tokio::time::timeout;

use super::spool::{Spool, Upload, too_large};
use crate::{ctx::Ctx, http::error::ApiError};

const REDIRECTS_MAX: usize = 3;

/// Fetches the image behind a URL.
///
/// # Errors
/// `image_url_blocked`: the URL itself is not allowed. `image_url_failed`: it did not answer with an image in time, or its name
/// leads to an address that is not allowed. One problem for both: a client must not learn which names the network of this process
/// knows.
pub(crate) async fn fetch(ctx: &Ctx, url: &str) -> Result<Upload, ApiError> {
    let limits = &ctx.config.limits;
    if !limits.image_urls {
        return Err(ApiError::new(
            ProblemCode::ImageUrlBlocked,
            "images by URL are turned off here: upload the bytes",
        ));
    }
    let url = ctx.egress.check(url).map_err(|_| blocked())?;
    let time_max = Duration::from_millis(limits.image_url_timeout_ms);
    let fetched = timeout(time_max, async {
        let response = follow(ctx, url).await?;
        receive(ctx, response).await
    });
    fetched.await.unwrap_or_else(|_| Err(failed()))
}

/// Follows redirects to the first 200. Each URL is checked.
async fn follow(ctx: &Ctx, mut url: Url) -> Result<Response, ApiError> {
    for _ in 0..=REDIRECTS_MAX {
        let request = ctx.egress.client().get(url.clone());
        let request = request.header(header::ACCEPT, "image/*");
        let response = request.send().await.map_err(|_| failed())?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        let (true, Some(location)) = (response.status().is_redirection(), location) else {
            return Err(failed());
        };
        url = url.join(location).map_err(|_| failed())?;
        ctx.egress.check_url(&url).map_err(|_| blocked())?;
    }
    Err(failed())
}

async fn receive(ctx: &Ctx, mut response: Response) -> Result<Upload, ApiError> {
    let limits = &ctx.config.limits;
    let announced = response.content_length().unwrap_or(0);
    if announced > limits.image_bytes_max as u64 {
        return Err(too_large(limits));
    }
    let mut spool = Spool::new(limits, 0);
    while let Some(chunk) = response.chunk().await.map_err(|_| failed())? {
        spool.push(&chunk)?;
    }
    spool.finish()
}

/// Says that the fetch failed and not how.
fn failed() -> ApiError {
    let detail = "the image could not be fetched from its URL";
    ApiError::new(ProblemCode::ImageUrlFailed, detail).with_error("/image/url", "failed", detail)
}

fn blocked() -> ApiError {
    let detail =
        "the image's URL is not allowed: it must be https, on port 443 or 80, at a public address";
    ApiError::new(ProblemCode::ImageUrlBlocked, detail).with_error("/image/url", "blocked", detail)
}
