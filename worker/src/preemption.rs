//! Spot notices: a cloud announces the end of a spot machine shortly before, each cloud in its own way.
//!
//! A metadata service that fails only causes a line in the log. A worker without a notice loses no job: its lease expires.

mod aws;
mod azure;
mod gcp;
mod metadata_service;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep, sleep_until, timeout},
};

use self::metadata_service::{MetadataService, ServiceError, Url};
use crate::{
    background,
    backoff::Backoff,
    drain::{Drain, Phase},
};

/// Time between two polls. A notice comes at least 30 seconds before the end, and a poll is two small requests to this
/// machine.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The delays after failed polls.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(10));
/// Longest time of one request.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The delays before each try of `auto` to detect the cloud. On a machine that has just booted the service may be late.
const DETECT_DELAYS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
/// Longest time that the start waits for the first poll, if the cloud is named. So a worker that starts after a notice claims
/// nothing.
const FIRST_POLL_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the worker gets spot notices from.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Spot machines")]
pub struct PreemptionConfig {
    /// Cloud whose spot notices drain the worker. On a notice the worker claims no more jobs, releases its jobs within
    /// milliseconds and ends with exit code 0. `auto` detects the cloud once, in the background. `none`: signals only
    #[arg(long, env = "DARKROOM_PREEMPTION", default_value = "auto")]
    pub preemption: PreemptionChoice,
    /// URL of the metadata service, if it is not at the default of the three clouds: a proxy, or AWS by IPv6
    /// (`http://[fd00:ec2::254]`)
    #[arg(
        long,
        env = "DARKROOM_METADATA_URL",
        default_value = "http://169.254.169.254"
    )]
    pub metadata_url: Url,
}

/// `--preemption`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PreemptionChoice {
    Auto,
    Aws,
    Gcp,
    Azure,
    None,
}

/// What the metadata service says about this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SpotStatus {
    NoNotice,
    /// The cloud may take the machine away soon.
    Advice,
    /// The cloud takes the machine away in `time_left`.
    Notice {
        time_left: Duration,
        event: String,
    },
}

#[derive(Debug)]
enum Cloud {
    Aws(aws::Aws),
    Gcp(gcp::Gcp),
    Azure(azure::Azure),
}

impl Cloud {
    const fn name(&self) -> &'static str {
        match self {
            Self::Aws(_) => "aws",
            Self::Gcp(_) => "gcp",
            Self::Azure(_) => "azure",
        }
    }

    async fn poll(&mut self, service: &MetadataService) -> Result<SpotStatus, ServiceError> {
        match self {
            Self::Aws(aws) => aws.poll(service).await,
            Self::Gcp(gcp) => gcp.poll(service).await,
            Self::Azure(azure) => azure.poll(service).await,
        }
    }
}

/// The first poll of the metadata service.
#[derive(Debug)]
pub struct FirstPoll(watch::Receiver<bool>);

impl FirstPoll {
    /// Waits for the first poll, for at most a second. Returns at once if the settings name no cloud.
    pub async fn wait(mut self) {
        drop(timeout(FIRST_POLL_TIMEOUT, self.0.wait_for(|is_done| *is_done)).await);
    }
}

/// Polls the metadata service in the background, and drains the worker on a notice.
pub fn watch(config: &PreemptionConfig, drain: &Drain) -> FirstPoll {
    let service = MetadataService::new(config.metadata_url.clone());
    let named = match config.preemption {
        PreemptionChoice::Aws => Some(Cloud::Aws(aws::Aws::default())),
        PreemptionChoice::Gcp => Some(Cloud::Gcp(gcp::Gcp::default())),
        PreemptionChoice::Azure => Some(Cloud::Azure(azure::Azure::default())),
        PreemptionChoice::Auto | PreemptionChoice::None => None,
    };
    let (is_polled, first_poll) = watch::channel(named.is_none());
    let auto = config.preemption == PreemptionChoice::Auto;
    let watched = drain.clone();
    background::spawn_finite(drain, "spot notices", async move {
        let cloud = match named {
            Some(cloud) => Some(cloud),
            None if auto => detect(&service).await,
            None => None,
        };
        if let Some(cloud) = cloud {
            poll_until_exit(cloud, &service, &watched, &is_polled).await;
        }
    });
    FirstPoll(first_poll)
}

/// Detects the cloud of this machine, if any.
async fn detect(service: &MetadataService) -> Option<Cloud> {
    for delay in DETECT_DELAYS {
        sleep(delay).await;
        let (aws, gcp, azure) = tokio::join!(
            aws::Aws::detect(service),
            gcp::Gcp::detect(service),
            azure::Azure::detect(service)
        );
        let found = aws.map(Cloud::Aws).or(gcp.map(Cloud::Gcp));
        if let Some(cloud) = found.or(azure.map(Cloud::Azure)) {
            return Some(cloud);
        }
    }
    tracing::info!(
        metadata = %service.url(),
        "no metadata service of a cloud found; only signals can end this worker"
    );
    None
}

/// The changes that are already in the log: each change is reported once.
#[derive(Debug)]
struct Reported {
    has_failed: bool,
    has_advice: bool,
    has_notice: bool,
    is_withdrawn: bool,
    backoff: Backoff,
}

impl Default for Reported {
    fn default() -> Self {
        Self {
            has_failed: false,
            has_advice: false,
            has_notice: false,
            is_withdrawn: false,
            backoff: BACKOFF,
        }
    }
}

async fn poll_until_exit(
    mut cloud: Cloud,
    service: &MetadataService,
    drain: &Drain,
    is_polled: &watch::Sender<bool>,
) {
    let name = cloud.name();
    tracing::info!(cloud = name, metadata = %service.url(), "watching for spot notices");
    let mut reported = Reported::default();
    loop {
        let began = Instant::now();
        let pause = match cloud.poll(service).await {
            Ok(status) => {
                reported.report_status(name, status, drain);
                POLL_INTERVAL
            }
            Err(error) => reported.report_error(name, &error),
        };
        is_polled.send_replace(true);
        sleep_until(began + pause).await;
    }
}

impl Reported {
    /// Logs a new status, and drains or finishes the worker.
    fn report_status(&mut self, cloud: &'static str, status: SpotStatus, drain: &Drain) {
        if self.has_failed {
            (self.has_failed, self.backoff) = (false, BACKOFF);
            tracing::info!(cloud, "the metadata service responds again");
        }
        match status {
            SpotStatus::NoNotice => {
                if self.has_notice && !self.is_withdrawn {
                    self.is_withdrawn = true;
                    tracing::warn!(
                        cloud,
                        "the notice was withdrawn, but a drain cannot be undone: start the worker again"
                    );
                }
            }
            SpotStatus::Advice => {
                if !self.has_advice {
                    self.has_advice = true;
                    tracing::warn!(cloud, "the machine may be taken away soon");
                }
                drain.advance(Phase::Finishing, "the cloud may take the machine away soon");
            }
            SpotStatus::Notice { time_left, event } => {
                if !self.has_notice {
                    self.has_notice = true;
                    metrics::counter!("darkroom_spot_notices_total").increment(1);
                    let left_seconds = time_left.as_secs_f64();
                    tracing::warn!(
                        cloud,
                        notice.event = event,
                        notice.left_seconds = left_seconds,
                        "the cloud takes the machine away"
                    );
                }
                drain.machine_ends_in(time_left, "the cloud takes the machine away");
            }
        }
    }

    /// Logs a failed poll. Returns the time until the next one.
    fn report_error(&mut self, cloud: &'static str, error: &ServiceError) -> Duration {
        if self.has_failed {
            tracing::debug!(cloud, error.cause = %error, "the metadata service still misbehaves");
        } else {
            tracing::warn!(cloud, error.cause = %error, "the metadata service misbehaves; the worker may miss a notice");
        }
        metrics::counter!("darkroom_metadata_faults_total").increment(1);
        self.has_failed = true;
        self.backoff.next_delay()
    }
}

/// Time from `now` to `end`, both by the clock of the service: the clock of this machine may be wrong by minutes. Returns
/// `promised` if one of them is unknown.
fn time_left_until(
    end: Option<DateTime<Utc>>,
    now: Option<DateTime<Utc>>,
    promised: Duration,
) -> Duration {
    match (end, now) {
        (Some(end), Some(now)) => (end - now).to_std().unwrap_or_default(),
        _ => promised,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{TimeDelta, Utc};

    use super::{Reported, ServiceError, SpotStatus, time_left_until};
    use crate::drain::{Drain, Phase};

    #[test]
    fn the_time_left_is_measured_by_the_clock_of_the_service() {
        let promised = Duration::from_mins(2);
        // Ten minutes ahead of this machine.
        let now = Utc::now() + TimeDelta::minutes(10);
        let left = time_left_until(Some(now + TimeDelta::seconds(90)), Some(now), promised);
        assert_eq!(left, Duration::from_secs(90));
        let past = time_left_until(Some(now - TimeDelta::seconds(5)), Some(now), promised);
        assert_eq!(past, Duration::ZERO);
        assert_eq!(time_left_until(None, Some(now), promised), promised);
        assert_eq!(time_left_until(Some(now), None, promised), promised);
    }

    #[test]
    fn polls_of_a_service_that_fails_back_off_until_it_responds() {
        let mut reported = Reported::default();
        let fail = |reported: &mut Reported| {
            let pause = reported.report_error("aws", &ServiceError::Timeout);
            pause.as_secs()
        };
        let pauses: Vec<u64> = (0..6).map(|_| fail(&mut reported)).collect();
        assert_eq!(pauses, [2, 4, 8, 10, 10, 10]);
        reported.report_status("aws", SpotStatus::NoNotice, &Drain::new());
        assert_eq!(fail(&mut reported), 2);
    }

    #[test]
    fn an_advice_finishes_and_a_notice_drains_for_good() {
        let (drain, mut reported) = (Drain::new(), Reported::default());
        reported.report_status("aws", SpotStatus::NoNotice, &drain);
        assert_eq!(drain.phase(), Phase::Working);
        reported.report_status("aws", SpotStatus::Advice, &drain);
        assert_eq!(drain.phase(), Phase::Finishing);
        let notice = SpotStatus::Notice {
            time_left: Duration::ZERO,
            event: "terminate".into(),
        };
        reported.report_status("aws", notice, &drain);
        assert_eq!(drain.phase(), Phase::Draining);
        reported.report_status("aws", SpotStatus::NoNotice, &drain);
        assert_eq!(
            (drain.phase(), reported.is_withdrawn),
            (Phase::Draining, true)
        );
    }
}
