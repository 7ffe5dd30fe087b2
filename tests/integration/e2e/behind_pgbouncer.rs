//! API and workers behind a PgBouncer, which has fewer connections to Postgres than one process opens.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use tests::{Answer, Pgbouncer, Stack, client::send, eventually, fixtures, given};

async fn ask(stack: &Stack, method: Method, path: &str) -> Answer {
    send(stack.client.request(method, path)).await
}

async fn wait_for_status(stack: &Stack, id: &str) -> String {
    let request = stack.client.request(Method::GET, &format!("/v1/jobs/{id}"));
    let job = send(request.header("Prefer", "wait=60")).await.json();
    job["status"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_run_paused_canceled_and_retried_behind_pgbouncer() {
    let Some(pgbouncer) = Pgbouncer::start(3).await else {
        return;
    };
    let db = given::database().await;
    let (url, direct_url) = (pgbouncer.url(&db), db.url().to_owned());
    let env = [
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_DIRECT_URL", direct_url.as_str()),
    ];
    let stack = Stack::over(db, &env).await;
    stack.push_models().await;
    let workers = [stack.worker("a", &env).await, stack.worker("b", &env).await];

    let photo = || fixtures::photo("ladybird.jpg");
    let photos = (0..12).map(|_| stack.client.predicted("?top_k=1", photo()));
    for job in join_all(photos).await {
        assert_eq!(job["result"]["labels"][0]["label"], "ladybug", "{job:#}");
    }

    let queue = format!("/v1/queues/{}", fixtures::CLASSIFIER);
    let pause = format!("{queue}/pause?why=test");
    assert_eq!(ask(&stack, Method::POST, &pause).await.status, 204);
    let job = stack.client.submit("", photo()).await;
    let id = job["id"].as_str().unwrap();
    let cancel = async { stack.client.cancel(id).await.status };
    let (status, canceled) = tokio::join!(wait_for_status(&stack, id), cancel);
    assert_eq!((status.as_str(), canceled), ("canceled", 200));
    let retry = format!("/v1/jobs/{id}/retry");
    assert_eq!(ask(&stack, Method::POST, &retry).await.status, 202);
    let resume = format!("{queue}/resume");
    let resumed = ask(&stack, Method::POST, &resume);
    let (status, resumed) = tokio::join!(wait_for_status(&stack, id), resumed);
    assert_eq!((status.as_str(), resumed.status), ("succeeded", 204));

    let open = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'";
    eventually(
        Duration::from_secs(10),
        "no transaction is left open",
        || async {
            let open = sqlx::query_scalar(open).fetch_one(&*stack.db).await;
            let open: i64 = open.unwrap();
            (open == 0).then_some(())
        },
    )
    .await;
    for process in workers.iter().chain([&stack.api]) {
        assert!(process.is_running());
        let log = process.log();
        for trouble in [
            "prepared statement",
            "startup parameter",
            "LISTEN connection lost",
        ] {
            assert!(!log.contains(trouble), "{trouble}: {log}");
        }
    }
    assert!(pgbouncer.is_running());
}
