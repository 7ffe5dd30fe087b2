//! `darkroom submit DIR`: whatever happens on the way, each photo is one job in the end.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Output, Stdio},
    sync::Arc,
};

use image::{Rgb, RgbImage};
use tempfile::TempDir;
use tests::{
    Stack,
    proxy::{On, Protocol, Proxy, Then, action},
};
use tokio::{
    process::Child,
    sync::{Mutex, oneshot},
};

const PHOTOS: usize = 60;

/// Small photos, no two alike, in a folder and one below it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("more")).unwrap();
    for at in 0..PHOTOS {
        let shade = u8::try_from(at).unwrap();
        let photo = RgbImage::from_pixel(32, 32, Rgb([shade, 255 - shade, 128]));
        let name = match at % 3 {
            0 => format!("more/{at:02}.png"),
            _ => format!("{at:02}.png"),
        };
        photo.save(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("notes.txt"), "no image").unwrap();
    folder
}

/// A person with a key, a place for journals, and a way to the service.
struct Person<'a> {
    stack: &'a Stack,
    key: String,
    url: String,
    state: TempDir,
}

impl<'a> Person<'a> {
    async fn new(stack: &'a Stack, proxy: &Proxy) -> Self {
        Self {
            stack,
            key: stack.key().await,
            url: format!("http://127.0.0.1:{}", proxy.port()),
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn submit(&self, folder: &Path, more: &[&str]) -> Child {
        let mut command = self.stack.command_line(&self.key);
        command
            .args(["submit", "--concurrency", "4"])
            .args(more)
            .arg(folder)
            .env("DARKROOM_URL", &self.url)
            .env("XDG_STATE_HOME", self.state.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    async fn submitted(&self, folder: &Path, more: &[&str]) -> (Output, Vec<String>) {
        let run = self.submit(folder, more).wait_with_output();
        let run = run.await.unwrap();
        let out = String::from_utf8(run.stdout.clone()).unwrap();
        let ids = out.lines().map(|line| line.split('\t').next().unwrap());
        (run, ids.map(ToOwned::to_owned).collect())
    }

    async fn jobs(&self) -> Vec<serde_json::Value> {
        let list = self.stack.client.get("/v1/jobs?limit=500").await.json();
        list["data"].as_array().unwrap().clone()
    }
}

fn port(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

#[track_caller]
fn assert_code(run: &Output, code: i32) {
    let log = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(code), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_killed_half_way_and_started_again_is_one_job_and_one_result_a_photo() {
    let stack = Stack::with_models().await;
    let proxy = Proxy::start(Protocol::Http, port(&stack.api.url)).await;
    let person = Person::new(&stack, &proxy).await;
    let folder = folder();

    // The half-th submit is accepted, and the command is killed before it hears so.
    let child: Arc<Mutex<Option<Child>>> = Arc::default();
    let before: Vec<_> = (1..PHOTOS / 2)
        .map(|_| {
            proxy.arm(
                On::Answered("POST /v1/jobs"),
                action(async || Then::Forward),
            )
        })
        .collect();
    let victim = child.clone();
    // The proxy's own word is lost with the connection.
    let (dead, killed) = oneshot::channel();
    let _armed = proxy.arm(
        On::Answered("POST /v1/jobs"),
        action(async move || {
            let mut victim = victim.lock().await;
            victim.as_mut().unwrap().kill().await.unwrap();
            dead.send(()).unwrap();
            Then::Cut
        }),
    );
    child
        .lock()
        .await
        .replace(person.submit(folder.path(), &[]));
    killed.await.unwrap();
    drop(before);
    let accepted = person.jobs().await.len();
    assert!(
        (PHOTOS / 2..PHOTOS).contains(&accepted),
        "{accepted} of {PHOTOS} were accepted before the kill"
    );

    let _worker = stack.worker("w", &[]).await;
    let (run, ids) = person.submitted(folder.path(), &["--wait"]).await;
    assert_code(&run, 0);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), PHOTOS);
    let jobs = person.jobs().await;
    assert_eq!(jobs.len(), PHOTOS);
    assert!(jobs.iter().all(|job| job["status"] == "succeeded"));
    let images: BTreeSet<_> = jobs
        .iter()
        .map(|job| job["input"]["image"].to_string())
        .collect();
    assert_eq!(images.len(), PHOTOS);

    // And once more, with nothing left to do; then all of it anew.
    let (run, again) = person.submitted(folder.path(), &["--wait"]).await;
    assert_code(&run, 0);
    assert_eq!(again, ids);
    let (run, anew) = person
        .submitted(folder.path(), &["--again", "--no-cache"])
        .await;
    assert_code(&run, 0);
    assert!(anew.iter().all(|id| !ids.contains(id)));
    assert_eq!(person.jobs().await.len(), 2 * PHOTOS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_that_loses_every_second_answer_is_one_job_a_photo() {
    let stack = Stack::without_workers().await;
    let proxy = Proxy::start(Protocol::Http, port(&stack.api.url)).await;
    let person = Person::new(&stack, &proxy).await;
    let folder = folder();
    let then = |n| if n % 2 == 0 { Then::Cut } else { Then::Forward };
    let mut answers: Vec<_> = (0..2 * PHOTOS)
        .map(|n| proxy.arm(On::Answered("POST /v1/jobs"), action(async move || then(n))))
        .collect();
    let (run, ids) = person.submitted(folder.path(), &[]).await;
    assert_code(&run, 0);
    let lost = answers.iter_mut().step_by(2);
    let lost = lost.filter_map(|answer| answer.try_recv().ok()).count();
    assert_eq!(lost, PHOTOS, "answers that were lost");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), PHOTOS);
    assert_eq!(person.jobs().await.len(), PHOTOS);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_and_changed_photos_of_a_folder_are_sent_and_a_bad_one_sinks_no_other() {
    let stack = Stack::without_workers().await;
    let proxy = Proxy::start(Protocol::Http, port(&stack.api.url)).await;
    let person = Person::new(&stack, &proxy).await;
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, shade: u8| {
        let photo = RgbImage::from_pixel(16, 16, Rgb([shade; 3]));
        photo.save(folder.path().join(name)).unwrap();
    };
    save("a.png", 1);
    save("b.png", 2);
    let (run, first) = person.submitted(folder.path(), &[]).await;
    assert_code(&run, 0);
    save("b.png", 3);
    save("c.png", 4);
    std::fs::write(folder.path().join("bad.jpg"), "torn").unwrap();
    let (run, second) = person.submitted(folder.path(), &[]).await;
    assert_code(&run, 4);
    let log = String::from_utf8_lossy(&run.stderr);
    assert!(
        log.contains("bad.jpg") && log.contains("unsupported_media_type"),
        "{log}"
    );
    assert_eq!(second.len(), 3, "{second:?}");
    assert_eq!(second[0], first[0]);
    assert_ne!(second[1], first[1]);
    // Other wishes are another run.
    let (_, third) = person.submitted(folder.path(), &["--priority", "5"]).await;
    assert!(third.iter().all(|id| !second.contains(id)));
}
