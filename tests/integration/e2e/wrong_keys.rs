//! Many wrong keys from one address: they are refused without a query, and keys that work go on working.

use tests::Stack;

/// A key of the right form that is not in the database.
fn wrong_key(number: usize) -> String {
    format!("dk_{number:012x}_{}", "A".repeat(43))
}

#[tokio::test]
async fn an_address_that_sends_wrong_keys_is_slowed_down_and_known_keys_pass() {
    // No further wrong key is allowed during the test.
    let env = [
        ("DARKROOM_WRONG_KEYS_PER_SECOND", "0.001"),
        ("DARKROOM_WRONG_KEYS_BURST", "3"),
    ];
    let stack = Stack::bare(&env).await;
    assert_eq!(stack.client.get("/v1/jobs").await.status, 200);
    for number in 0..3 {
        let client = stack.client_with(Some(&wrong_key(number)));
        client.get("/v1/jobs").await.problem(401, "unauthorized");
    }
    for number in 0..5 {
        let client = stack.client_with(Some(&wrong_key(number)));
        let refused = client.get("/v1/jobs").await;
        refused.problem(429, "rate_limited");
        let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((900..=1000).contains(&seconds), "{seconds}");
    }
    assert_eq!(stack.client.get("/v1/jobs").await.status, 200);
    for no_key in [None, Some("nonsense")] {
        let client = stack.client_with(no_key);
        client.get("/v1/jobs").await.problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_wrong_key_that_comes_again_costs_no_query() {
    let stack = Stack::bare(&[("DARKROOM_WRONG_KEYS_PER_SECOND", "0")]).await;
    let client = stack.client_with(Some(&wrong_key(1)));
    client.get("/v1/jobs").await.problem(401, "unauthorized");
    // No look-up of a key gets through.
    let mut lock = stack.db.begin().await.unwrap();
    sqlx::query("lock table api_keys in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    client.get("/v1/jobs").await.problem(401, "unauthorized");
}
