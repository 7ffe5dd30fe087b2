use sqlx::PgPool;

use super::DeliveryId;

/// Sends a delivery again, whatever came of it, under its id and with a new budget of attempts. Answers whether the owner
/// has such a one.
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
