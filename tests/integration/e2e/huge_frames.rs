//! Pictures that are huge when they are decoded: a worker stays within its memory, and no other job is harmed.

use std::{
    fs,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::json;
use tests::{
    Stack, fixtures,
    odd_pictures::{self, Ending, check_attempts},
    scene,
    stack::Running,
};

/// Pictures of each kind that are sent at once.
const AT_ONCE: usize = 16;

const KIB: u64 = 1 << 10;

/// Most bytes for all decodes of the worker: the default, written out. Each PNG takes almost half of them.
const DECODE_MEMORY_BYTES_MAX: u64 = 1 << 30;

/// What the worker and its decoders may take besides: files in hand, forward batches, and memory that their allocators keep.
const OTHER_BYTES_MAX: u64 = 256 << 20;

/// Address space takes more than memory: stacks of threads, and the arenas of glibc.
const OTHER_ADDRESS_SPACE_MAX: u64 = 1 << 30;

/// The pictures whose first frame is larger than the limits, as their headers say.
const HUGE_FRAMES: [&str; 3] = [
    "gif-1x1-screen-121-megapixel-frame.gif",
    "webp-animated-huge-frame.webp",
    "webp-small-canvas-huge-vp8l.webp",
];

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_huge_pictures_of_each_kind_stay_within_the_memory_of_their_worker() {
    // The API refuses the huge frames. Here it accepts them, so that the worker must defend itself.
    let stack = Stack::bare(&[
        ("DARKROOM_IMAGE_PIXELS_MAX", "1000000000"),
        ("DARKROOM_IMAGE_SIDE_PX_MAX", "100000"),
        ("DARKROOM_DECODE_BYTES_MAX", "100000000000"),
    ])
    .await;
    stack.push_models().await;
    let decode_memory = DECODE_MEMORY_BYTES_MAX.to_string();
    let worker_env = [
        ("DARKROOM_DECODE_MEMORY_BYTES_MAX", decode_memory.as_str()),
        // Without a common limit, this many pictures would be decoded at once.
        ("DARKROOM_DECODE_THREADS", "16"),
    ];
    let worker = stack.worker("w", &worker_env).await;
    let photos = || (0..AT_ONCE).map(|_| fixtures::photo("cat.jpg"));
    let warm = run(&stack, photos().collect()).await;
    assert!(warm.iter().all(|ending| is_expected(ending, true)));

    let before = memory_of_family(worker.pid());
    let peak_before = peak_of_process(worker.pid());
    limit_address_space(&worker);
    let watch = MemoryWatch::start(worker.pid());
    let png = scene::deep_png_with_orientation(8_000, 5_000, 6);
    let mut pictures = vec![png; AT_ONCE];
    for file in HUGE_FRAMES {
        pictures.extend(vec![fixtures::read(&format!("inputs/{file}")); AT_ONCE]);
    }
    pictures.extend(photos());
    let endings = run(&stack, pictures).await;
    let peak = watch.stop();

    let mut kinds = vec![("a PNG", true)];
    kinds.extend(HUGE_FRAMES.map(|file| (file, false)));
    kinds.push(("a photo", true));
    let mut faults = Vec::new();
    for ((kind, succeeds), endings) in kinds.into_iter().zip(endings.chunks(AT_ONCE)) {
        let unexpected = endings.iter().filter(|one| !is_expected(one, succeeds));
        faults.extend(unexpected.map(|ending| format!("{kind}: {ending:?}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    assert!(worker.is_running());
    let workers: i64 = sqlx::query_scalar("select count(*) from workers")
        .fetch_one(&*stack.db)
        .await
        .unwrap();
    assert_eq!(workers, 1, "the worker never lost its lease");
    let growth_max = DECODE_MEMORY_BYTES_MAX + OTHER_BYTES_MAX;
    assert_within("the worker and its decoders", peak, before + growth_max);
    // The watch may have missed a short peak of one process.
    let worker_peak = peak_of_process(worker.pid());
    assert_within("the worker", worker_peak, peak_before + growth_max);
    for decoder in family(worker.pid()).into_iter().skip(1) {
        assert_within("a decoder", peak_of_process(decoder), growth_max);
    }
}

/// Whether the job succeeded in one attempt; or was refused, or failed in one attempt, because of its image.
fn is_expected(ending: &Ending, succeeds: bool) -> bool {
    let codes = [json!("image_too_many_pixels"), json!("image_undecodable")];
    match ending {
        Ending::Refused(problem) => !succeeds && codes.contains(&problem["code"]),
        Ending::Ended(job) => {
            let is_expected = if succeeds {
                job["status"] == "succeeded"
            } else {
                job["status"] == "failed" && codes.contains(&job["error"]["code"])
            };
            is_expected && check_attempts(job).is_ok()
        }
    }
}

#[track_caller]
fn assert_within(what: &str, peak: u64, limit: u64) {
    let (peak, limit) = (peak >> 20, limit >> 20);
    assert!(
        peak <= limit,
        "{what} took {peak} MiB, the limit is {limit}"
    );
}

/// Submits all images at once and waits until their jobs have ended.
async fn run(stack: &Stack, images: Vec<Vec<u8>>) -> Vec<Ending> {
    let client = &stack.client;
    let submits = images
        .into_iter()
        .map(|image| client.post_job("", "application/octet-stream", image));
    let mut endings = Vec::new();
    for answer in join_all(submits).await {
        endings.push(odd_pictures::ending(client, &answer).await);
    }
    endings
}

/// Limits the address space of a running worker. Processes that the worker starts from now on inherit the limit.
fn limit_address_space(worker: &Running) {
    let now = kib(worker.pid(), "status", "VmPeak:").unwrap() * KIB;
    let limit = now + DECODE_MEMORY_BYTES_MAX + OTHER_ADDRESS_SPACE_MAX;
    let status = std::process::Command::new("prlimit")
        .args([format!("--pid={}", worker.pid()), format!("--as={limit}")])
        .status();
    assert!(status.unwrap().success(), "prlimit failed");
}

/// Reads every 20 ms how much memory a process and its descendants take together.
struct MemoryWatch {
    /// Ends the watch when it is dropped.
    running: SyncSender<()>,
    peak: JoinHandle<u64>,
}

impl MemoryWatch {
    fn start(pid: i32) -> Self {
        let (running, ended): (_, Receiver<()>) = sync_channel(1);
        let peak = std::thread::spawn(move || {
            let mut peak = 0;
            let pause = Duration::from_millis(20);
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                peak = peak.max(memory_of_family(pid));
            }
            peak
        });
        Self { running, peak }
    }

    /// The largest sum, in bytes.
    fn stop(self) -> u64 {
        drop(self.running);
        self.peak.join().unwrap()
    }
}

/// Bytes of memory of a process and its descendants. A page that several of them share counts once. Mapped files, such as
/// the libraries of libtorch, do not count: workers of other tests share them.
fn memory_of_family(pid: i32) -> u64 {
    let of_process = |pid| {
        let kib = |field| kib(pid, "smaps_rollup", field).unwrap_or(0);
        (kib("Pss_Anon:") + kib("Pss_Shmem:")) * KIB
    };
    family(pid).into_iter().map(of_process).sum()
}

/// The peak of the resident memory of a process, in bytes. The kernel keeps it.
fn peak_of_process(pid: i32) -> u64 {
    kib(pid, "status", "VmHWM:").unwrap_or(0) * KIB
}

/// A process and its descendants.
fn family(pid: i32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let with_parents: Vec<_> = processes
        .filter_map(|pid: i32| Some((pid, parent(pid)?)))
        .collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        let children = with_parents.iter().filter(|(_, of)| *of == parent);
        family.extend(children.map(|(child, _)| *child));
        next += 1;
    }
    family
}

/// The parent of a process; `None` if the process has ended.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program is in parentheses, and may contain any character.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// A number of KiB in a file of a process; `None` if the process has ended.
fn kib(pid: i32, file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
