//! The code in `docs/webhooks.md`, as a reader would copy it.

use std::{collections::BTreeMap, path::Path};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Receiver, Stack, client::send, fixtures};
use tokio::process::Command;

/// All blocks of one language, in their order.
fn blocks(language: &str) -> Vec<String> {
    let page = fixtures::folder().join("../../docs/webhooks.md");
    let page = std::fs::read_to_string(page).unwrap();
    let fence = format!("\n```{language}\n");
    let blocks = page.split(&fence).skip(1);
    blocks
        .map(|rest| rest.split("\n```").next().unwrap().to_owned())
        .collect()
}

/// What a program prints that has to succeed, with a key of the stack at hand.
async fn run(stack: &Stack, program: &Path, args: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = Command::new(program);
    command
        .args(args)
        .env("DARKROOM_URL", &stack.api.url)
        .env("DARKROOM_API_KEY", stack.key().await)
        .envs(env.iter().copied())
        .kill_on_drop(true);
    let run = command.output().await.unwrap();
    let (out, log) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    let program = program.display();
    assert!(run.status.success(), "{program}: {out}{log}");
    out.into_owned()
}

/// A message as it came, signed by two secrets, and a secret that has no part in it; in a file.
async fn message(stack: &Stack) -> tempfile::NamedTempFile {
    let receiver = Receiver::start().await;
    let secret = stack.client.get("/v1/webhook_secret").await.json();
    let rotate = "/v1/webhook_secret/rotate";
    let rotated = send(stack.client.request(Method::POST, rotate)).await;
    let query = format!("?webhook={}", receiver.url("/"));
    let job = stack
        .client
        .submit(&query, fixtures::photo("cat.jpg"))
        .await;
    stack.client.cancel(job["id"].as_str().unwrap()).await;
    let heard = receiver.heard(1).await.remove(0);
    let headers = heard.headers.iter();
    let headers: BTreeMap<_, _> = headers
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    let message = json!({
        "secrets": [secret["secret"], rotated.json()["secret"]], "other": "whsec_b3RoZXI=",
        "headers": headers, "body": heard.body,
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), message.to_string()).unwrap();
    file
}

async fn stack() -> Stack {
    Stack::without_workers_but(&[("DARKROOM_ALLOW_PRIVATE_ADDRESSES", "true")]).await
}

const PYTHON_CHECKS: &str = r#"
import json, os
with open(os.environ["MESSAGE"]) as file:
    message = json.load(file)
headers, body = message["headers"], message["body"].encode()
old = {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 301)}
for secret in message["secrets"]:
    assert is_authentic(secret, headers, body)
    assert not is_authentic(secret, headers, body + b" ")
    assert not is_authentic(secret, old, body)
assert not is_authentic(message["other"], headers, body)
"#;

#[tokio::test]
async fn the_check_in_python_knows_our_signatures() {
    let stack = stack().await;
    let message = message(&stack).await;
    let code = format!("{}\n{PYTHON_CHECKS}", blocks("python")[0]);
    let env = [("MESSAGE", message.path().to_str().unwrap())];
    run(&stack, Path::new("python3"), &["-c", &code], &env).await;
}

const TYPESCRIPT_CHECKS: &str = r#"
import { readFileSync } from "node:fs";
const message = JSON.parse(readFileSync(process.env.MESSAGE!, "utf8"));
const { headers, secrets, other } = message;
const body = Buffer.from(message.body);
const old = { ...headers, "webhook-timestamp": String(Number(headers["webhook-timestamp"]) - 301) };
const wanted = secrets.every((secret: string) =>
  isAuthentic(secret, headers, body) && !isAuthentic(secret, headers, Buffer.from(message.body + " ")) && !isAuthentic(secret, old, body));
if (!wanted || isAuthentic(other, headers, body)) throw new Error("wrong");
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_check_in_typescript_compiles_and_knows_our_signatures() {
    let stack = stack().await;
    let message = message(&stack).await;
    let root = fixtures::folder().join("../..").canonicalize().unwrap();
    run(&stack, &root.join("clients/setup"), &["typescript"], &[]).await;
    let clients = root.join(".local/clients");
    let packages = clients.join("typescript/node_modules");
    let folder = tempfile::tempdir().unwrap();
    let code = format!("{}\n{TYPESCRIPT_CHECKS}", blocks("ts")[0]);
    std::fs::write(folder.path().join("check.mts"), code).unwrap();
    let types = packages.join("@types");
    let config = json!({
        "compilerOptions": {
            "target": "ES2022", "module": "NodeNext", "strict": true, "skipLibCheck": true, "noEmitOnError": true,
            "types": ["node"], "typeRoots": [types],
        },
        "files": ["check.mts"],
    });
    std::fs::write(folder.path().join("tsconfig.json"), config.to_string()).unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", clients.join("bin").display());
    let env = [
        ("PATH", path.as_str()),
        ("MESSAGE", message.path().to_str().unwrap()),
    ];
    let compiler = packages.join(".bin/tsc");
    let project = ["--project", folder.path().to_str().unwrap()];
    run(&stack, &compiler, &project, &env).await;
    let program = folder.path().join("check.mjs");
    // By a shell: the PATH of the test itself may have no node.
    let node = ["-c", "exec node \"$0\"", program.to_str().unwrap()];
    run(&stack, Path::new("sh"), &node, &env).await;
}

#[tokio::test]
async fn the_endpoint_is_made_and_a_job_followed_by_curl() {
    let stack = Stack::without_workers().await;
    let curls = blocks("sh");
    assert_eq!(curls.len(), 2);
    let shell = Path::new("sh");
    let made = run(&stack, shell, &["-c", &curls[0]], &[]).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["events"], json!(["batch.completed", "job.failed"]));
    assert!(made["secret"].is_string());

    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let id = job["id"].as_str().unwrap();
    stack.client.cancel(id).await;
    let steps = run(&stack, shell, &["-c", &curls[1]], &[("JOB", id)]).await;
    assert!(steps.contains("event: job.canceled"), "{steps}");
}

/// What the reader of the page has to bring: a way to ask, and a place for the cursor.
const READERS_OWN: &str = r#"
import json, os, urllib.parse, urllib.request

class Answer(bytes):
    def json(self): return json.loads(self)

def get(path, params, headers):
    headers = {**headers, "Authorization": "Bearer " + os.environ["DARKROOM_API_KEY"]}
    url = os.environ["DARKROOM_URL"] + path + "?" + urllib.parse.urlencode(params)
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return Answer(answer.read())

def load(): return os.environ["CURSOR"]

def handle(kind, data): print(kind, data["id"])

def save(cursor): raise SystemExit(0)
"#;

#[tokio::test]
async fn the_reader_of_the_feed_goes_on_where_it_was() {
    let stack = Stack::without_workers().await;
    let latest = stack.client.get("/v1/events?after=latest").await.json();
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let id = job["id"].as_str().unwrap();
    stack.client.cancel(id).await;
    let code = format!("{READERS_OWN}\n{}", blocks("python")[1]);
    let env = [("CURSOR", latest["next_cursor"].as_str().unwrap())];
    let handled = run(&stack, Path::new("python3"), &["-c", &code], &env).await;
    assert_eq!(handled, format!("job.canceled {id}\n"));
}
