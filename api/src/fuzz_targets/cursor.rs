use std::{fmt, str::FromStr};

use actix_web::{
    http::{Uri, header::HeaderValue},
    test::TestRequest,
};
use jobs::{
    BatchId, JobId,
    events::Cursor,
    webhooks::{DeliveryId, EndpointId},
};

use crate::{
    http::paging::{next_link, query},
    routes::{
        batches::{list_query, results::after},
        events::FeedQuery,
        jobs::list::ListQuery,
        webhooks::deliveries,
    },
};

/// A cursor survives being written, and its list takes it. A query survives in the link to the next page.
pub fn cursor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some(id) = rewrite::<JobId>(text) {
        ListQuery::parse(&format!("cursor={id}")).expect("a cursor of jobs");
    }
    if let Some(id) = rewrite::<BatchId>(text) {
        list_query(&format!("cursor={id}")).expect("a cursor of batches");
    }
    if let Some(id) = rewrite::<DeliveryId>(text) {
        deliveries::parse(&format!("cursor={id}")).expect("a cursor of deliveries");
    }
    if let Some(cursor) = rewrite::<Cursor>(text) {
        FeedQuery::parse(&format!("after={cursor}")).expect("a cursor of events");
    }
    rewrite::<EndpointId>(text);
    // Each may be refused, but must not panic.
    let _ = ListQuery::parse(text);
    let _ = list_query(text);
    let _ = deliveries::parse(text);
    let _ = FeedQuery::parse(text);
    let _ = after(text);
    keep_query(text);
}

/// The parsed text, if it parses.
fn rewrite<T>(text: &str) -> Option<T>
where
    T: FromStr + fmt::Display + fmt::Debug + PartialEq,
{
    let value: T = text.parse().ok()?;
    let written = value.to_string();
    assert_eq!(
        written.parse::<T>().ok().as_ref(),
        Some(&value),
        "{written}"
    );
    Some(value)
}

fn keep_query(text: &str) {
    const CURSOR: &str = "job_00000000000000000000000000000001";
    let path = format!("/v1/jobs?{text}");
    if path.parse::<Uri>().is_err() {
        return;
    }
    let request = TestRequest::with_uri(&path).to_http_request();
    let (_, link) = next_link(&request, CURSOR);
    HeaderValue::from_str(&link).expect("the link is a header");
    let next = link.strip_prefix("</v1/jobs?");
    let next = next.and_then(|next| next.strip_suffix(">; rel=\"next\""));
    let next = query(next.expect("the link has a query"));
    let kept = query(request.query_string()).filter(|(name, _)| name != "cursor");
    assert!(next.eq(kept.chain([("cursor".into(), CURSOR.into())])));
}
