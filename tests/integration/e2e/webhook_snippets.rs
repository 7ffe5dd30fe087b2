//! Runs the code blocks of `docs/webhooks.md`, copied as a reader copies them.

use std::{collections::BTreeMap, path::Path};

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Receiver, Stack, client::send, fixtures};
use tokio::process::Command;

/// All code blocks of the page in one language, in order.
fn code_blocks(language: &str) -> Vec<String> {
    let page = fixtures::folder().join("../../docs/webhooks.md");
    let page = std::fs::read_to_string(page).unwrap();
    let fence = format!("\n```{language}\n");
    let parts = page.split(&fence).skip(1);
    parts
        .map(|rest| rest.split("\n```").next().unwrap().to_owned())
        .collect()
}

/// Runs a program with the URL and a key of the stack. Returns the output; the program must succeed.
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

/// A file with a message that a receiver got, the two secrets that signed the message, and an unrelated secret.
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
async fn the_python_check_accepts_only_our_signatures() {
    let stack = stack().await;
    let message = message(&stack).await;
    let code = format!("{}\n{PYTHON_CHECKS}", code_blocks("python")[0]);
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
async fn the_typescript_check_compiles_and_accepts_only_our_signatures() {
    let stack = stack().await;
    let message = message(&stack).await;
    let root = fixtures::folder().join("../..").canonicalize().unwrap();
    run(&stack, &root.join("clients/setup"), &["typescript"], &[]).await;
    let clients = root.join(".local/clients");
    let packages = clients.join("typescript/node_modules");
    let folder = tempfile::tempdir().unwrap();
    let code = format!("{}\n{TYPESCRIPT_CHECKS}", code_blocks("ts")[0]);
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
    // Through a shell: the PATH of the test itself may have no node.
    let node = ["-c", "exec node \"$0\"", program.to_str().unwrap()];
    run(&stack, Path::new("sh"), &node, &env).await;
}

#[tokio::test]
async fn the_curl_commands_make_an_endpoint_and_follow_a_job() {
    let stack = Stack::without_workers().await;
    let commands = code_blocks("sh");
    assert_eq!(commands.len(), 2);
    let shell = Path::new("sh");
    let made = run(&stack, shell, &["-c", &commands[0]], &[]).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["events"], json!(["batch.completed", "job.failed"]));
    assert!(made["secret"].is_string());

    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let id = job["id"].as_str().unwrap();
    stack.client.cancel(id).await;
    let steps = run(&stack, shell, &["-c", &commands[1]], &[("JOB", id)]).await;
    assert!(steps.contains("event: job.canceled"), "{steps}");
}

/// The parts that a reader of the page supplies: an HTTP client, and a store for the cursor.
const READER_CODE: &str = r#"
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
async fn the_feed_reader_continues_at_its_cursor() {
    let stack = Stack::without_workers().await;
    let latest = stack.client.get("/v1/events?after=latest").await.json();
    let job = stack.client.submit("", fixtures::photo("cat.jpg")).await;
    let id = job["id"].as_str().unwrap();
    stack.client.cancel(id).await;
    let code = format!("{READER_CODE}\n{}", code_blocks("python")[1]);
    let env = [("CURSOR", latest["next_cursor"].as_str().unwrap())];
    let handled = run(&stack, Path::new("python3"), &["-c", &code], &env).await;
    assert_eq!(handled, format!("job.canceled {id}\n"));
}
