use sqlx::PgPool;

use super::{Db, answered};

/// Makes the schema at home in the cluster that it is in. After a restore into another cluster the events of before stay
/// readable, and missing roles and grants are made. Returns whether there was anything to do.
///
/// Any process may call this at any time; one look at a row, if nothing has changed.
///
/// # Errors
/// Postgres is away, or the user of this process may not call the function: its grant was lost with the role.
pub async fn adopt_cluster(db: &PgPool) -> Result<bool, sqlx::Error> {
    let adopted = sqlx::query_scalar!(r#"select adopt_cluster() as "adopted!""#);
    let adopted = adopted.fetch_one(db).await?;
    if adopted {
        tracing::warn!(
            "this database was restored into another cluster: its events, roles and grants were adopted"
        );
    }
    Ok(adopted)
}

/// As [`adopt_cluster`], for a process that starts. An error is logged: it must not keep the process from starting.
pub async fn adopt_if_moved(db: &Db) {
    if let Err(error) = answered(db, adopt_cluster(db)).await {
        tracing::warn!(
            error.cause = %error,
            "cannot look whether the database was restored; after a restore let the owner of the schema run: select adopt_cluster()"
        );
    }
}
