//! Logical replication of all tables: Postgres then refuses updates and deletes of tables without a replica identity.

use jobs::events;
use tests::given;

#[tokio::test]
async fn every_table_has_a_replica_identity() {
    let db = given::database().await;
    let without: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text from pg_class c
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relreplident <> 'f'
           and not exists (select from pg_index i where i.indrelid = c.oid and (i.indisreplident or i.indisprimary))",
    )
    .fetch_all(&*db)
    .await
    .unwrap();
    assert!(without.is_empty(), "{without:?}");
}

#[tokio::test]
async fn events_are_pruned_from_a_database_with_a_publication_for_all_tables() {
    let db = given::database().await;
    let publish = "create publication everything for all tables";
    sqlx::raw_sql(publish).execute(&*db).await.unwrap();
    sqlx::query(
        "insert into events (owner, type, job_ids, at)
         values ('alice', 'job.succeeded', array[new_job_id()], now() - interval '60 days')",
    )
    .execute(&*db)
    .await
    .unwrap();
    events::prune_events(&db, 30.0 * 86_400.0).await.unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from events")
        .fetch_one(&*db)
        .await
        .unwrap();
    assert_eq!(left, 0);
}
