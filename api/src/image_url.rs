//! An image that a client names by its URL: fetched at submit, then an upload like any other. What counts is the content as
//! it was at that moment.

use std::time::Duration;

use jobs::ProblemCode;
use reqwest::{Response, StatusCode, Url, header};
use tokio::time::timeout;

use crate::{
    ctx::Ctx,
    error::ApiError,
    outside::was_refused,
    spool::{Spool, Upload, too_large},
};

const REDIRECTS_MAX: usize = 3;

/// The image behind a URL.
pub(crate) async fn fetch(ctx: &Ctx, url: &str) -> Result<Upload, ApiError> {
    let limits = &ctx.config.limits;
    if !limits.image_urls {
        return Err(ApiError::new(
            ProblemCode::ImageUrlBlocked,
            "images by URL are turned off here: upload the bytes",
        ));
    }
    let url = ctx.outside.check(url).map_err(|_| blocked())?;
    let longest = Duration::from_millis(limits.image_url_timeout_ms);
    let fetched = timeout(longest, async {
        let response = follow(ctx, url).await?;
        receive(ctx, response).await
    });
    fetched.await.unwrap_or_else(|_| Err(failed()))
}

/// The first answer that is no redirect; each step is looked at as the first one was.
async fn follow(ctx: &Ctx, mut url: Url) -> Result<Response, ApiError> {
    for _ in 0..=REDIRECTS_MAX {
        let request = ctx.outside.client().get(url.clone());
        let request = request.header(header::ACCEPT, "image/*");
        let response = request.send().await.map_err(|error| in_short(&error))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        let (true, Some(location)) = (response.status().is_redirection(), location) else {
            return Err(failed());
        };
        url = url.join(location).map_err(|_| failed())?;
        ctx.outside.check_url(&url).map_err(|_| blocked())?;
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
    while let Some(chunk) = response.chunk().await.map_err(|error| in_short(&error))? {
        spool.push(&chunk)?;
    }
    spool.finish()
}

/// The client hears that it failed, and not how: it must not learn about the network from us.
fn in_short(error: &reqwest::Error) -> ApiError {
    if was_refused(error) {
        blocked()
    } else {
        failed()
    }
}

fn failed() -> ApiError {
    let detail = "the image could not be fetched from its URL";
    ApiError::new(ProblemCode::ImageUrlFailed, detail).with_error("/image/url", "failed", detail)
}

fn blocked() -> ApiError {
    let detail =
        "the image's URL is not allowed: it must be https, on port 443 or 80, at a public address";
    ApiError::new(ProblemCode::ImageUrlBlocked, detail).with_error("/image/url", "blocked", detail)
}
