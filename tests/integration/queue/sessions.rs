//! Settings that a database or a role gives to all its sessions, and which the programs do not inherit.

use jobs::db::StatementPool;
use sqlx::{AssertSqlSafe, PgConnection};
use tests::given;

async fn isolation(connection: &mut PgConnection) -> String {
    let shown = sqlx::query_scalar("show transaction_isolation");
    shown.fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn the_isolation_level_of_a_database_is_not_inherited() {
    let db = given::database().await;
    let name: String = sqlx::query_scalar("select current_database()")
        .fetch_one(&*db)
        .await
        .unwrap();
    for level in ["serializable", "repeatable read"] {
        let set = format!("alter database {name} set default_transaction_isolation = '{level}'");
        sqlx::raw_sql(AssertSqlSafe(set))
            .execute(&*db)
            .await
            .unwrap();
        let inherited = isolation(&mut db.connection().await).await;
        assert_eq!(inherited, level, "the test sets what sessions inherit");
        let pool = db.another_pool();
        let own = isolation(&mut pool.acquire().await.unwrap()).await;
        assert_eq!(own, "read committed");
        let statements = StatementPool::with_one_plan(pool);
        let own = isolation(&mut statements.take().await.unwrap()).await;
        assert_eq!(own, "read committed");
    }
}
