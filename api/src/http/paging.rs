//! Lists in pages: query parameters, cursors, and the `Link` to the next page.

use std::borrow::Cow;

use actix_web::{HttpRequest, http::header};

use super::error::ApiError;

/// The query parameters of a request, decoded.
pub(crate) fn query(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.as_bytes())
}

/// Reads each query parameter with `read`, which says what is wrong with it.
///
/// # Errors
/// `invalid_params`, with the name of the parameter.
pub(crate) fn read_query<E: Into<Cow<'static, str>>>(
    text: &str,
    mut read: impl FnMut(&str, &str) -> Result<(), E>,
) -> Result<(), ApiError> {
    for (name, value) in query(text) {
        read(&name, &value).map_err(|detail| ApiError::invalid_query(&name, &detail.into()))?;
    }
    Ok(())
}

/// A number of items a page, from 1 to `max`.
pub(crate) fn parse_limit(value: &str, max: u16) -> Option<u16> {
    let limit = value.parse().ok();
    limit.filter(|limit| (1..=max).contains(limit))
}

/// Cuts a list that was read one item past `limit` to one page. Returns the cursor of the next page, `None` on the last one.
pub(crate) fn cut_page<T>(
    items: &mut Vec<T>,
    limit: u16,
    cursor: impl Fn(&T) -> String,
) -> Option<String> {
    let has_more = items.len() > usize::from(limit);
    items.truncate(limit.into());
    items.last().filter(|_| has_more).map(cursor)
}

/// The `Link` to the next page: this request with another cursor.
pub(crate) fn next_link(request: &HttpRequest, cursor: &str) -> (header::HeaderName, String) {
    let query = form_urlencoded::parse(request.query_string().as_bytes());
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(query.filter(|(name, _)| name != "cursor"))
        .append_pair("cursor", cursor)
        .finish();
    let link = format!("<{}?{query}>; rel=\"next\"", request.path());
    (header::LINK, link)
}
