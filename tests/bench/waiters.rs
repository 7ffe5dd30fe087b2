//! `waiters`: what ten thousand open long polls and event streams cost one API process, and a submit beside them.

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
    /// Of the waiters, those that hold an event stream; the others hold a long poll.
    pub sse_share: f64,
}

/// The side that it is compared with.
const FEW: usize = 100;
/// Connections that one source address may hold: ports run short at some 28,000.
const PER_ADDRESS: usize = 20_000;
const OPENING_AT_ONCE: usize = 200;
/// Jobs that one statement queues.
const QUEUED_AT_ONCE: usize = 1_000;
/// What was opened or closed has come to rest when the API takes no more of a core than this.
const AT_REST_CPU: f64 = 0.05;
const AT_REST_WITHIN: Duration = Duration::from_mins(3);

/// Few, many, few, many …: medians of the rounds.
pub(crate) async fn measure(bench: &Bench, options: &Options) -> Value {
    let many = options.waiters;
    let photos = load::read(&bench.photos);
    let connections_max = (many * 2).to_string();
    let stack = Stack::without_workers_but(&[
        ("DARKROOM_CONNECTIONS_MAX", connections_max.as_str()),
        ("DARKROOM_KEY_REQUESTS_PER_SECOND", "0"),
        ("DARKROOM_OWNER_QUEUED_JOBS_MAX", "0"),
        // A line of log for each of 10,000 polls is not what is measured.
        ("DARKROOM_LOG", "warn"),
    ])
    .await;
    let crowd = Crowd::of(&stack, many, options.sse_share).await;
    // Warm-up: connections to Postgres and what they remember are no waiter's.
    drop(crowd.open(&stack, FEW * 2).await);
    submits(&stack, &photos, 2.0).await;
    at_rest(&stack).await;

    let (mut few50, mut few99, mut many50, mut many99, mut kib) =
        (vec![], vec![], vec![], vec![], None);
    for round in 1..=bench.rounds {
        let waiting = crowd.open(&stack, FEW).await;
        let (p50, p99) = submits(&stack, &photos, bench.seconds).await;
        few50.push(p50);
        few99.push(p99);
        let before = pss_kib(&stack);
        let more = crowd.open(&stack, many - FEW).await;
        // Only the first time: what is freed stays with the allocator.
        let per_waiter = (pss_kib(&stack) - before) / (many - FEW) as f64;
        kib.get_or_insert(per_waiter);
        let (p50, p99) = submits(&stack, &photos, bench.seconds).await;
        many50.push(p50);
        many99.push(p99);
        crowd.is_whole(many);
        eprintln!(
            "round {round}: submit p99 {:.1} ms beside {FEW} waiters, {p99:.1} ms beside {many}; {per_waiter:.1} KiB a waiter",
            few99[round - 1]
        );
        drop((waiting, more));
        at_rest(&stack).await;
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

/// Median and p99 in milliseconds of single submits, one after the other.
async fn submits(stack: &Stack, photos: &load::Photos, seconds: f64) -> (f64, f64) {
    let ends = Instant::now() + Duration::from_secs_f64(seconds);
    let (mut took, mut turn) = (Vec::new(), 0);
    while Instant::now() < ends {
        let photo = load::unique(&photos[turn % photos.len()]).into_one();
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

/// Until every request that was sent waits, and every connection that was closed is gone.
async fn at_rest(stack: &Stack) {
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
    let gives_up = Instant::now() + AT_REST_WITHIN;
    let (mut before, mut at) = (cpu_seconds(), Instant::now());
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let used = (cpu_seconds() - before) / at.elapsed().as_secs_f64();
        if used <= AT_REST_CPU {
            return;
        }
        assert!(Instant::now() < gives_up, "the API does not come to rest");
        (before, at) = (cpu_seconds(), Instant::now());
    }
}

/// The part of memory that is the API's own.
fn pss_kib(stack: &Stack) -> f64 {
    let path = format!("/proc/{}/smaps_rollup", stack.api.pid());
    let rollup = std::fs::read_to_string(path).unwrap();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = pss.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

/// Those who wait, each for a job of its own that does not change.
#[derive(Debug)]
struct Crowd {
    api: SocketAddr,
    authorization: String,
    jobs: Vec<JobId>,
    /// How many of all hold an event stream.
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

    /// Opens more waits; they end when what it hands back is dropped.
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
            // From 127.0.0.1 on: a port serves each of them once.
            let from = [127, 0, 0, 1 + (index / PER_ADDRESS) as u8];
            opening.spawn(Waiter::connect(self.api, from, self.request(number)));
        }
        while let Some(opened) = opening.join_next().await {
            waiting.spawn(wait(opened.unwrap(), self.lost.clone()));
        }
        at_rest(stack).await;
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

    /// Nobody who should wait was let go.
    fn is_whole(&self, waiters: usize) {
        let lost = self.lost.load(Ordering::Relaxed);
        assert_eq!(lost, 0, "of {waiters} waiters so many were let go");
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

/// Long polls end after a minute without news, and are sent again; streams just go on.
async fn wait(mut waiter: Waiter, lost: Arc<AtomicUsize>) {
    let mut answer = [0; 2048];
    loop {
        let length = waiter.socket.read(&mut answer).await.unwrap_or(0);
        let known = answer[..length].starts_with(b"HTTP/1.1 304");
        let goes_on = length > 0 && (waiter.request.is_stream || known);
        if !goes_on {
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
