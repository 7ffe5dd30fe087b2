//! `darkroom submit DIR`: each photo makes one job, even if the command is killed or answers are lost.

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

/// A folder of small photos, all different; every third photo lies in a subfolder.
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

/// Runs the command line with a key, a folder for journals, and the URL of a proxy before the API.
struct CliUser<'a> {
    stack: &'a Stack,
    key: String,
    url: String,
    state: TempDir,
}

impl<'a> CliUser<'a> {
    async fn new(stack: &'a Stack, proxy: &Proxy) -> Self {
        Self {
            stack,
            key: stack.key().await,
            url: format!("http://127.0.0.1:{}", proxy.port()),
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn spawn_submit(&self, folder: &Path, more: &[&str]) -> Child {
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

    async fn run_submit(&self, folder: &Path, more: &[&str]) -> (Output, Vec<String>) {
        let run = self.spawn_submit(folder, more).wait_with_output();
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
async fn a_folder_submit_that_is_killed_and_run_again_makes_one_job_per_photo() {
    let stack = Stack::with_models().await;
    let proxy = Proxy::start(Protocol::Http, port(&stack.api.url)).await;
    let user = CliUser::new(&stack, &proxy).await;
    let folder = folder();

    // The API accepts half of the photos. The command is killed before it gets the last of these answers.
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
    // The proxy's own report is lost with the connection.
    let (report_kill, killed) = oneshot::channel();
    let _armed = proxy.arm(
        On::Answered("POST /v1/jobs"),
        action(async move || {
            let mut victim = victim.lock().await;
            victim.as_mut().unwrap().kill().await.unwrap();
            report_kill.send(()).unwrap();
            Then::Cut
        }),
    );
    child
        .lock()
        .await
        .replace(user.spawn_submit(folder.path(), &[]));
    killed.await.unwrap();
    drop(before);
    let accepted = user.jobs().await.len();
    assert!(
        (PHOTOS / 2..PHOTOS).contains(&accepted),
        "{accepted} of {PHOTOS} were accepted before the kill"
    );

    let _worker = stack.worker("w", &[]).await;
    let (run, ids) = user.run_submit(folder.path(), &["--wait"]).await;
    assert_code(&run, 0);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), PHOTOS);
    let jobs = user.jobs().await;
    assert_eq!(jobs.len(), PHOTOS);
    assert!(jobs.iter().all(|job| job["status"] == "succeeded"));
    let images: BTreeSet<_> = jobs
        .iter()
        .map(|job| job["input"]["image"].to_string())
        .collect();
    assert_eq!(images.len(), PHOTOS);

    // A third run has nothing left to do. A fourth run submits all photos again.
    let (run, again) = user.run_submit(folder.path(), &["--wait"]).await;
    assert_code(&run, 0);
    assert_eq!(again, ids);
    let (run, new_ids) = user
        .run_submit(folder.path(), &["--again", "--no-cache"])
        .await;
    assert_code(&run, 0);
    assert!(new_ids.iter().all(|id| !ids.contains(id)));
    assert_eq!(user.jobs().await.len(), 2 * PHOTOS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_submit_that_loses_every_second_answer_makes_one_job_per_photo() {
    let stack = Stack::without_workers().await;
    let proxy = Proxy::start(Protocol::Http, port(&stack.api.url)).await;
    let user = CliUser::new(&stack, &proxy).await;
    let folder = folder();
    let then = |n| if n % 2 == 0 { Then::Cut } else { Then::Forward };
    let mut answers: Vec<_> = (0..2 * PHOTOS)
        .map(|n| proxy.arm(On::Answered("POST /v1/jobs"), action(async move || then(n))))
        .collect();
    let (run, ids) = user.run_submit(folder.path(), &[]).await;
    assert_code(&run, 0);
    let lost = answers.iter_mut().step_by(2);
    let lost = lost.filter_map(|answer| answer.try_recv().ok()).count();
    assert_eq!(lost, PHOTOS, "answers that were lost");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), PHOTOS);
    assert_eq!(user.jobs().await.len(), PHOTOS);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_new_and_changed_photos_are_submitted_and_a_bad_photo_stops_no_other() {
    let stack = Stack::without_workers().await;
    let proxy = Proxy::start(Protocol::Http, port(&stack.api.url)).await;
    let user = CliUser::new(&stack, &proxy).await;
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, shade: u8| {
        let photo = RgbImage::from_pixel(16, 16, Rgb([shade; 3]));
        photo.save(folder.path().join(name)).unwrap();
    };
    save("a.png", 1);
    save("b.png", 2);
    let (run, first) = user.run_submit(folder.path(), &[]).await;
    assert_code(&run, 0);
    save("b.png", 3);
    save("c.png", 4);
    std::fs::write(folder.path().join("bad.jpg"), "torn").unwrap();
    let (run, second) = user.run_submit(folder.path(), &[]).await;
    assert_code(&run, 4);
    let log = String::from_utf8_lossy(&run.stderr);
    assert!(
        log.contains("bad.jpg") && log.contains("unsupported_media_type"),
        "{log}"
    );
    assert_eq!(second.len(), 3, "{second:?}");
    assert_eq!(second[0], first[0]);
    assert_ne!(second[1], first[1]);
    // Other options make new jobs.
    let (_, third) = user.run_submit(folder.path(), &["--priority", "5"]).await;
    assert!(third.iter().all(|id| !second.contains(id)));
}
