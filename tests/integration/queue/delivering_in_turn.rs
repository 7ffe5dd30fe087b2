//! Claims of deliveries take turns between owners and hosts, so that no owner delays the webhooks of another.

use std::collections::HashMap;

use jobs::webhooks::{self, ClaimLimits, Delivery, ScanPosition};
use sqlx::PgPool;
use tests::given;

use super::delivering::{MANY, claim, claim_beside};

/// Adds due deliveries of `owner` to `host`, each a microsecond older than the next.
async fn due(db: &PgPool, owner: &str, host: &str, count: i32) {
    sqlx::query(
        "insert into webhook_deliveries (owner, url, type, job_id, next_attempt_at)
         select $1, 'https://' || $2 || '/', 'job.failed', new_job_id(), now() - interval '1 hour' + n * interval '1 microsecond'
         from generate_series(1, $3) n",
    )
    .bind(owner)
    .bind(host)
    .bind(count)
    .execute(db)
    .await
    .unwrap();
}

/// `owner host` and the number of its deliveries.
fn by_destination(claimed: &[Delivery]) -> Vec<(String, usize)> {
    let mut count = std::collections::BTreeMap::<String, usize>::new();
    for one in claimed {
        let destination = format!("{} {}", one.destination.owner, one.destination.host);
        *count.entry(destination).or_default() += 1;
    }
    count.into_iter().collect()
}

fn counts<const N: usize>(destinations: [(&str, usize); N]) -> Vec<(String, usize)> {
    destinations
        .map(|(destination, count)| (destination.to_owned(), count))
        .into()
}

#[tokio::test]
async fn a_busy_host_is_limited_and_does_not_delay_other_hosts() {
    let db = given::database().await;
    due(&db, "alice", "slow.example", 4).await;
    due(&db, "bob", "slow.example", 4).await;
    due(&db, "alice", "quick.example", 1).await;
    let three = ClaimLimits {
        per_host: 3,
        ..MANY
    };
    let full = [("alice", "slow.example", 2), ("bob", "slow.example", 1)];
    let claimed = claim_beside(&db, &three, &full).await;
    assert_eq!(
        by_destination(&claimed),
        counts([("alice quick.example", 1)])
    );
    let claimed = claim_beside(&db, &three, &full[..1]).await;
    assert_eq!(by_destination(&claimed), counts([("bob slow.example", 1)]));
    assert_eq!(claim(&db).await.len(), 7);
}

#[tokio::test]
async fn an_owner_leaves_room_at_a_host_for_other_owners() {
    let db = given::database().await;
    let eight = ClaimLimits {
        per_host: 8,
        ..MANY
    };
    due(&db, "alice", "shared.example", 50).await;
    let claimed = claim_beside(&db, &eight, &[]).await;
    assert_eq!(
        by_destination(&claimed),
        counts([("alice shared.example", 6)])
    );
    due(&db, "bob", "shared.example", 50).await;
    let sending = [("alice", "shared.example", 6)];
    let claimed = claim_beside(&db, &eight, &sending).await;
    assert_eq!(
        by_destination(&claimed),
        counts([("bob shared.example", 2)])
    );
}

#[tokio::test]
async fn owners_and_their_hosts_take_turns() {
    let db = given::database().await;
    for host in ["a.example", "b.example", "c.example", "d.example"] {
        due(&db, "alice", host, 100).await;
    }
    due(&db, "bob", "e.example", 2).await;
    due(&db, "carol", "f.example", 2).await;
    let six = ClaimLimits {
        deliveries: 6,
        ..MANY
    };
    let claimed = by_destination(&claim_beside(&db, &six, &[]).await);
    let of = |owner: &str| {
        let destinations = claimed
            .iter()
            .filter(|(destination, _)| destination.starts_with(owner));
        destinations.map(|(_, count)| *count).collect::<Vec<_>>()
    };
    assert_eq!(of("alice"), [1, 1], "two hosts, once each: {claimed:?}");
    assert_eq!((of("bob"), of("carol")), (vec![2], vec![2]));
}

#[tokio::test]
async fn an_owner_gets_no_more_than_its_share_of_the_sends() {
    let db = given::database().await;
    for host in ["a.example", "b.example", "c.example", "d.example"] {
        due(&db, "alice", host, 100).await;
    }
    due(&db, "bob", "e.example", 1).await;
    let sixteen = ClaimLimits {
        per_owner: 16,
        per_host: 8,
        ..MANY
    };
    let sending = [("alice", "a.example", 6), ("alice", "b.example", 6)];
    let claimed = by_destination(&claim_beside(&db, &sixteen, &sending).await);
    let expected = [
        ("alice c.example", 2),
        ("alice d.example", 2),
        ("bob e.example", 1),
    ];
    assert_eq!(claimed, counts(expected));
}

/// Nothing of an owner hides deliveries of another owner: neither more due deliveries than a claim reads, nor more hosts.
#[tokio::test]
async fn a_delivery_is_found_behind_thousands_of_another_owner() {
    let db = given::database().await;
    due(&db, "alice", "silent.example", 10_000).await;
    sqlx::query(
        "insert into webhook_deliveries (owner, url, type, job_id, next_attempt_at)
         select 'alice', 'https://' || n || '.example/', 'job.failed', new_job_id(), now() - interval '2 hours' from generate_series(1, 10000) n",
    )
    .execute(&*db)
    .await
    .unwrap();
    due(&db, "bob", "answers.example", 1).await;
    let few = ClaimLimits {
        deliveries: 4,
        ..MANY
    };
    let claimed = claim_beside(&db, &few, &[]).await;
    assert!(claimed.iter().any(|one| one.destination.owner == "bob"));
}

/// One destination for each of many owners, none of which is due: the next claim goes on where this one stopped.
#[tokio::test]
async fn claims_look_at_all_destinations_one_part_after_the_other() {
    let db = given::database().await;
    sqlx::query(
        "insert into webhook_deliveries (owner, url, type, job_id, next_attempt_at)
         select 'owner' || to_char(n, 'FM0000'), 'https://a.example/', 'job.failed', new_job_id(), now() + interval '1 hour'
         from generate_series(1, 900) n",
    )
    .execute(&*db)
    .await
    .unwrap();
    let (mut from, mut claims) = (ScanPosition::default(), 0);
    loop {
        let due = webhooks::claim(&*db, &MANY, &HashMap::new(), &from).await;
        (from, claims) = (due.unwrap().next, claims + 1);
        if from == ScanPosition::default() {
            break;
        }
    }
    assert_eq!(claims, 3);
}
