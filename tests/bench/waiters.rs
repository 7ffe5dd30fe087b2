//! `waiters`: the cost of ten thousand open long polls and event streams for one API process and for its submits.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use jobs::JobId;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Stack, given};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::{Bench, cpu, load, median, rounded};

#[derive(Debug)]
pub(crate) struct Options {
    pub waiters: usize,
    /// Share of the waiters that hold an event stream. The others hold a long poll.
    pub sse_share: f64,
}

/// Number of waiters in the baseline.
const FEW: usize = 100;
/// Connections of one source address. An address has about 28,000 ports.
const PER_ADDRESS: usize = 20_000;
const OPENING_AT_ONCE: usize = 200;
/// Jobs of one enqueue statement.
const QUEUED_AT_ONCE: usize = 1_000;
/// The API is idle if it uses at most this share of a core.
const IDLE_CPU_SHARE_MAX: f64 = 0.05;
const IDLE_WITHIN: Duration = Duration::from_mins(3);

/// Measures submits beside few and beside many waiters, in turns. Returns medians of the rounds.
pub(crate) async fn measure(bench: &Bench, options: &Options) -> Value {
    let many = options.waiters;
    let photos = load::read(&bench.photos);
    let connections_max = (many * 2).to_string();
    let stack = Stack::without_workers_but(&[
        ("DARKROOM_CONNECTIONS_MAX", connections_max.as_str()),
        ("DARKROOM_KEY_REQUESTS_PER_SECOND", "0"),
        ("DARKROOM_OWNER_QUEUED_JOBS_MAX", "0"),
        // No log line for each of the 10,000 polls.
        ("DARKROOM_LOG", "warn"),
    ])
    .await;
    let crowd = Crowd::of(&stack, many, options.sse_share).await;
    // Warm-up: connections to Postgres and their caches must not count as memory of waiters.
    drop(crowd.open(&stack, FEW * 2).await);
    submits(&stack, &photos, 2.0).await;
    wait_until_idle(&stack).await;

    let (mut few50, mut few99, mut many50, mut many99, mut kib) =
        (vec![], vec![], vec![], vec![], None);
    for round in 1..=bench.rounds {
        let waiting = crowd.open(&stack, FEW).await;
        let (p50, p99) = submits(&stack, &photos, bench.seconds).await;
        few50.push(p50);
        few99.push(p99);
        let before = pss_kib(&stack);
        let more = crowd.open(&stack, many - FEW).await;
        // Measures memory in the first round only: later the allocator reuses freed memory.
        let per_waiter = (pss_kib(&stack) - before) / (many - FEW) as f64;
        kib.get_or_insert(per_waiter);
        let (p50, p99) = submits(&stack, &photos, bench.seconds).await;
        many50.push(p50);
        many99.push(p99);
        crowd.assert_none_lost(many);
        eprintln!(
            "round {round}: submit p99 {:.1} ms beside {FEW} waiters, {p99:.1} ms beside {many}; {per_waiter:.1} KiB a waiter",
            few99[round - 1]
        );
        drop((waiting, more));
        wait_until_idle(&stack).await;
    }
    let [few50, few99, many50, many99] = [few50, few99, many50, many99].map(median);
    let mut figures = json!({
        "ratio": rounded(many99 / few99), "kib_per_waiter": rounded(kib.unwrap_or_default()),
        "waiters": many, "event_streams": crowd.streams, "rounds": bench.rounds, "seconds": bench.seconds,
    });
    for (name, ms) in [
        (format!("submit_p50_ms_{FEW}"), few50),
        (format!("submit_p99_ms_{FEW}"), few99),
        (format!("submit_p50_ms_{many}"), many50),
        (format!("submit_p99_ms_{many}"), many99),
    ] {
        figures[name] = rounded(ms);
    }
    figures
}

/// Median and p99 in milliseconds of submits, one after the other.
async fn submits(stack: &Stack, photos: &load::Photos, seconds: f64) -> (f64, f64) {
    let ends = Instant::now() + Duration::from_secs_f64(seconds);
    let (mut took, mut turn) = (Vec::new(), 0);
    while Instant::now() < ends {
        let photo = load::with_unique_comment(&photos[turn % photos.len()]).into_one();
        turn += 1;
        let started = Instant::now();
        let answer = stack.client.post_job("", "image/jpeg", photo).await;
        took.push(started.elapsed().as_secs_f64() * 1e3);
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    took.sort_by(f64::total_cmp);
    let percentile = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    (percentile(0.5), percentile(0.99))
}

/// Waits until the API is idle: all requests wait, and closed connections are gone.
async fn wait_until_idle(stack: &Stack) {
    let cpu_seconds = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", stack.api.pid())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: f64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|field| field.parse::<f64>().unwrap())
            .sum();
        ticks / cpu::TICKS
    };
    let gives_up = Instant::now() + IDLE_WITHIN;
    let (mut before, mut at) = (cpu_seconds(), Instant::now());
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let used = (cpu_seconds() - before) / at.elapsed().as_secs_f64();
        if used <= IDLE_CPU_SHARE_MAX {
            return;
        }
        assert!(Instant::now() < gives_up, "the API does not come to rest");
        (before, at) = (cpu_seconds(), Instant::now());
    }
}

/// Proportional set size (PSS) of the API in KiB.
fn pss_kib(stack: &Stack) -> f64 {
    let path = format!("/proc/{}/smaps_rollup", stack.api.pid());
    let rollup = std::fs::read_to_string(path).unwrap();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = pss.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

/// Makes waiters. Each waits for a job of its own that does not change.
#[derive(Debug)]
struct Crowd {
    api: SocketAddr,
    authorization: String,
    jobs: Vec<JobId>,
    /// Number of waiters that hold an event stream.
    streams: usize,
    opened: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
}

impl Crowd {
    async fn of(stack: &Stack, size: usize, sse_share: f64) -> Self {
        let models = jobs::models::resolve_all(&*stack.db, &[None])
            .await
            .unwrap();
        let (_, model) = &models[0];
        let new: Vec<_> = (0..size).map(|_| given::job(model, "waited for")).collect();
        for new in new.chunks(QUEUED_AT_ONCE) {
            jobs::queue::enqueue(&stack.db, new).await.unwrap();
        }
        let jobs: Vec<_> = new.iter().map(|job| job.id).collect();
        let events = format!("/v1/jobs/{}/events", jobs[0]);
        let has_streams = stack.client.get(&events).await.status == 200;
        if !has_streams && sse_share > 0.0 {
            eprintln!("this API has no event streams: long polls only");
        }
        let request = stack.client.request(Method::GET, "/").build().unwrap();
        let authorization = request.headers()["authorization"].to_str().unwrap();
        Self {
            api: stack.api.url.trim_start_matches("http://").parse().unwrap(),
            authorization: authorization.to_owned(),
            jobs,
            streams: (size as f64 * if has_streams { sse_share } else { 0.0 }) as usize,
            opened: Arc::default(),
            lost: Arc::default(),
        }
    }

    /// Opens `count` more waiters. Dropping the returned set closes them.
    async fn open(&self, stack: &Stack, count: usize) -> JoinSet<()> {
        let (mut waiting, mut opening) = (JoinSet::new(), JoinSet::new());
        for index in 0..count {
            if opening.len() >= OPENING_AT_ONCE {
                waiting.spawn(wait(
                    opening.join_next().await.unwrap().unwrap(),
                    self.lost.clone(),
                ));
            }
            let number = self.opened.fetch_add(1, Ordering::Relaxed);
            // Uses further source addresses, from 127.0.0.1 on: each has its own ports.
            let from = [127, 0, 0, 1 + (index / PER_ADDRESS) as u8];
            opening.spawn(Waiter::connect(self.api, from, self.request(number)));
        }
        while let Some(opened) = opening.join_next().await {
            waiting.spawn(wait(opened.unwrap(), self.lost.clone()));
        }
        wait_until_idle(stack).await;
        waiting
    }

    fn request(&self, number: usize) -> Request {
        let number = number % self.jobs.len();
        let (job, is_stream) = (self.jobs[number], number < self.streams);
        let (path, how) = if is_stream {
            ("/events", "Accept: text/event-stream".to_owned())
        } else {
            ("", "Prefer: wait=60\r\nIf-None-Match: \"1\"".to_owned())
        };
        Request {
            head: format!(
                "GET /v1/jobs/{job}{path} HTTP/1.1\r\nHost: api\r\nAuthorization: {}\r\n{how}\r\n\r\n",
                self.authorization
            ),
            is_stream,
        }
    }

    /// Asserts that no waiter was answered early.
    fn assert_none_lost(&self, waiters: usize) {
        let lost = self.lost.load(Ordering::Relaxed);
        assert_eq!(lost, 0, "{lost} of {waiters} waiters were answered early");
    }
}

#[derive(Debug)]
struct Request {
    head: String,
    is_stream: bool,
}

#[derive(Debug)]
struct Waiter {
    socket: TcpStream,
    request: Request,
}

impl Waiter {
    async fn connect(api: SocketAddr, from: [u8; 4], request: Request) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut socket = socket.connect(api).await.unwrap();
        socket.write_all(request.head.as_bytes()).await.unwrap();
        Self { socket, request }
    }
}

/// Holds a waiter. Sends a long poll again when it ends after a minute without news.
async fn wait(mut waiter: Waiter, lost: Arc<AtomicUsize>) {
    let mut answer = [0; 2048];
    loop {
        let length = waiter.socket.read(&mut answer).await.unwrap_or(0);
        let is_unchanged = answer[..length].starts_with(b"HTTP/1.1 304");
        let still_waits = length > 0 && (waiter.request.is_stream || is_unchanged);
        if !still_waits {
            lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if !waiter.request.is_stream {
            let head = waiter.request.head.as_bytes();
            if waiter.socket.write_all(head).await.is_err() {
                lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}
