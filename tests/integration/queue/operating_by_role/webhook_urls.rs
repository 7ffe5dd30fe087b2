//! What each role sees of the addresses of webhooks, which often hold a token.

use super::*;

const WHOLE: &str = "https://user:pw@hooks.example:8443/services/T0/B0/token?key=1";
const SHOWN: &str = "https://hooks.example:8443/…";

/// A job that ended, whose webhook failed with a redirect that repeats the token.
async fn failed_delivery(db: &Database) {
    let job = given::queued_with(db, "cat", |job| job.webhook_url = Some(WHOLE.into())).await;
    queue::cancel(db, job, None).await.unwrap();
    let failed = "update webhook_deliveries set log = jsonb_build_array(jsonb_build_object('at', now(), 'status', 301, 'error',
                      '301: a redirect to https://other.example/token, which is not followed'))";
    sqlx::query(failed).execute(&**db).await.unwrap();
}

/// What the views show of the addresses, in one line.
async fn seen_by(db: &Database, role: &str) -> String {
    let mut connection = psql(db, role).await;
    let seen = "select concat_ws(' ', j.webhook_url, d.url, d.last_error) from ops.jobs j join ops.deliveries d using (job_id)";
    answer(&mut connection, seen).await
}

#[tokio::test]
async fn readers_see_webhook_urls_without_their_tokens_and_operators_see_them_whole() {
    let db = given::database().await;
    failed_delivery(&db).await;
    let error = "301: a redirect to …, which is not followed";
    assert_eq!(
        seen_by(&db, "darkroom_reader").await,
        format!("{SHOWN} {SHOWN} {error}")
    );
    let error = "301: a redirect to https://other.example/token, which is not followed";
    for role in ["darkroom_operator", "darkroom_api"] {
        let seen = seen_by(&db, role).await;
        assert_eq!(seen, format!("{WHOLE} {WHOLE} {error}"), "{role}");
    }
}

#[tokio::test]
async fn a_url_without_a_path_is_shown_to_readers_as_it_is() {
    let db = given::database().await;
    for (url, shown) in [
        ("https://hooks.example", "https://hooks.example"),
        ("https://hooks.example/", "https://hooks.example"),
        ("https://hooks.example?token", "https://hooks.example/…"),
        ("https://a@b@hooks.example/x", "https://hooks.example/…"),
        ("https://[::1]:9/x", "https://[::1]:9/…"),
        ("nonsense", "/…"),
    ] {
        let mut reader = psql(&db, "darkroom_reader").await;
        let shown_url = format!("select public.shown_url('{url}')");
        assert_eq!(answer(&mut reader, &shown_url).await, shown, "{url}");
    }
}
