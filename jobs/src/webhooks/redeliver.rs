use sqlx::PgPool;

use super::DeliveryId;

/// Sends a delivery again, whatever its state, with its id and a new budget of attempts. Returns whether the owner has this
/// delivery.
///
/// # Errors
/// Postgres is away.
pub async fn redeliver(
    db: &PgPool,
    delivery: DeliveryId,
    owner: &str,
) -> Result<bool, sqlx::Error> {
    let outcome = sqlx::query_scalar!(
        r#"select redeliver_webhook($1, $2) as "outcome!""#,
        delivery.uuid(),
        owner
    );
    Ok(outcome.fetch_one(db).await? == "pending")
}
