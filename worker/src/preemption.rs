//! Watching for the machine's end: clouds say shortly before that they take a spot machine away, each in its own way.
//!
//! What the metadata service does wrong (hang, refuse, babble) costs a line in the log and nothing else: leases run out by
//! themselves, so that a worker without a notice loses no job, only time.

mod aws;
mod azure;
mod gcp;
mod service;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep, sleep_until, timeout},
};

use self::service::{Fault, Service, Url};
use crate::drain::{Drain, Phase};

/// Between two looks. The shortest notices are of 30 seconds, and a look is two small requests to this very machine.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at a service that misbehaves, at most.
const LOOK_AGAIN_MOST: Duration = Duration::from_secs(10);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Before each try of `auto` to find out where it is: the service of a machine that has just booted may be late.
const DETECT: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
/// How long the start waits for the first look, where the cloud is named: a worker that is started anew on a doomed
/// machine claims nothing.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Where the worker hears that its machine is taken away.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Spot machines")]
pub struct PreemptionConfig {
    /// Whose spot notices to watch for. On one the worker claims no more, gives its jobs back within milliseconds and
    /// ends with exit code 0. `auto` asks once, in the background, which cloud this is; `none` hears signals only
    #[arg(long, env = "DARKROOM_PREEMPTION", default_value = "auto")]
    pub preemption: PreemptionChoice,
    /// The metadata service, if it is not where all three clouds have it: a proxy, or AWS by IPv6 (`http://[fd00:ec2::254]`)
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

/// What a look at the service showed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sight {
    /// The machine stays, for all that is known.
    Clear,
    /// It may be taken away before long: better to move while there is time.
    Advice,
    /// It is taken away in so long.
    Notice { left: Duration, what: String },
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

    async fn look(&mut self, service: &Service) -> Result<Sight, Fault> {
        match self {
            Self::Aws(aws) => aws.look(service).await,
            Self::Gcp(gcp) => gcp.look(service).await,
            Self::Azure(azure) => azure.look(service).await,
        }
    }
}

/// A watch that has begun.
#[derive(Debug)]
pub struct Machine(watch::Receiver<bool>);

impl Machine {
    /// Returns once the first look is over, or after a second; at once where no cloud was named.
    pub async fn looked_at(mut self) {
        drop(timeout(FIRST_LOOK, self.0.wait_for(|looked| *looked)).await);
    }
}

/// Watches for as long as the process lives, and drains the worker on a notice.
pub fn watch(config: &PreemptionConfig, drain: Drain) -> Machine {
    let service = Service::new(config.metadata_url.clone());
    let named = match config.preemption {
        PreemptionChoice::Aws => Some(Cloud::Aws(aws::Aws::default())),
        PreemptionChoice::Gcp => Some(Cloud::Gcp(gcp::Gcp::default())),
        PreemptionChoice::Azure => Some(Cloud::Azure(azure::Azure::default())),
        PreemptionChoice::Auto | PreemptionChoice::None => None,
    };
    let (looked, machine) = watch::channel(named.is_none());
    let auto = config.preemption == PreemptionChoice::Auto;
    tokio::spawn(async move {
        let cloud = match named {
            Some(cloud) => Some(cloud),
            None if auto => detect(&service).await,
            None => None,
        };
        if let Some(cloud) = cloud {
            watch_for_ever(cloud, &service, &drain, &looked).await;
        }
    });
    Machine(machine)
}

/// Which cloud this is, if any.
async fn detect(service: &Service) -> Option<Cloud> {
    for pause in DETECT {
        sleep(pause).await;
        let (aws, gcp, azure) = tokio::join!(
            aws::Aws::find(service),
            gcp::Gcp::find(service),
            azure::Azure::find(service)
        );
        let found = aws.map(Cloud::Aws).or(gcp.map(Cloud::Gcp));
        if let Some(cloud) = found.or(azure.map(Cloud::Azure)) {
            return Some(cloud);
        }
    }
    tracing::info!(
        metadata = %service.url(),
        "no cloud's metadata service answers: watching for signals only"
    );
    None
}

/// What the log and the drain know already: each change is told once.
#[derive(Debug, Default)]
struct Told {
    faults: u32,
    advised: bool,
    noticed: bool,
    withdrawn: bool,
}

async fn watch_for_ever(
    mut cloud: Cloud,
    service: &Service,
    drain: &Drain,
    looked: &watch::Sender<bool>,
) {
    let name = cloud.name();
    tracing::info!(cloud = name, metadata = %service.url(), "watching for spot notices");
    let mut told = Told::default();
    loop {
        let began = Instant::now();
        let pause = match cloud.look(service).await {
            Ok(sight) => {
                if told.faults > 0 {
                    told.faults = 0;
                    tracing::info!(cloud = name, "the metadata service answers again");
                }
                told.heed(name, sight, drain);
                LOOK
            }
            Err(fault) => told.fault(name, &fault),
        };
        looked.send_replace(true);
        sleep_until(began + pause).await;
    }
}

impl Told {
    fn heed(&mut self, cloud: &'static str, sight: Sight, drain: &Drain) {
        match sight {
            Sight::Clear => {
                if self.noticed && !self.withdrawn {
                    self.withdrawn = true;
                    tracing::warn!(
                        cloud,
                        "the notice was withdrawn; a drain never turns back: start the worker anew"
                    );
                }
            }
            Sight::Advice => {
                if !self.advised {
                    self.advised = true;
                    tracing::warn!(cloud, "the machine may be taken away soon");
                }
                drain.advance(Phase::Finishing, "the cloud advises to move");
            }
            Sight::Notice { left, what } => {
                if !self.noticed {
                    self.noticed = true;
                    metrics::counter!("darkroom_spot_notices_total").increment(1);
                    let left_seconds = left.as_secs_f64();
                    tracing::warn!(
                        cloud,
                        notice.what = what,
                        notice.left_seconds = left_seconds,
                        "the machine is taken away"
                    );
                }
                drain.machine_ends_in(left, "the machine is taken away");
            }
        }
    }

    /// How long to leave the service alone.
    fn fault(&mut self, cloud: &'static str, fault: &Fault) -> Duration {
        if self.faults == 0 {
            tracing::warn!(cloud, error.cause = %fault, "the metadata service misbehaves: a notice may be missed");
        } else {
            tracing::debug!(cloud, error.cause = %fault, "the metadata service still misbehaves");
        }
        metrics::counter!("darkroom_metadata_faults_total").increment(1);
        self.faults = self.faults.saturating_add(1);
        (LOOK * 2_u32.saturating_pow(self.faults.min(10))).min(LOOK_AGAIN_MOST)
    }
}

/// Time left until `end` by the clock of the service that named it: this machine's may be wrong by minutes. Without one,
/// what the cloud promises. The notice itself counts at once, whatever the time.
fn left_until(
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

    use super::{Fault, LOOK_AGAIN_MOST, Sight, Told, left_until};
    use crate::drain::{Drain, Phase};

    #[test]
    fn the_time_left_is_told_by_the_services_own_clock() {
        let promised = Duration::from_mins(2);
        // Ten minutes ahead of this machine.
        let now = Utc::now() + TimeDelta::minutes(10);
        let left = left_until(Some(now + TimeDelta::seconds(90)), Some(now), promised);
        assert_eq!(left, Duration::from_secs(90));
        let past = left_until(Some(now - TimeDelta::seconds(5)), Some(now), promised);
        assert_eq!(past, Duration::ZERO);
        assert_eq!(left_until(None, Some(now), promised), promised);
        assert_eq!(left_until(Some(now), None, promised), promised);
    }

    #[test]
    fn a_service_that_misbehaves_is_left_alone_for_longer_and_longer() {
        let mut told = Told::default();
        let pauses: Vec<u64> = (0..6)
            .map(|_| told.fault("aws", &Fault::Silent).as_secs())
            .collect();
        assert_eq!(pauses, [2, 4, 8, 10, 10, 10]);
        told.faults = u32::MAX;
        assert_eq!(told.fault("aws", &Fault::Silent), LOOK_AGAIN_MOST);
    }

    #[test]
    fn an_advice_finishes_and_a_notice_drains_for_good() {
        let (drain, mut told) = (Drain::new(), Told::default());
        told.heed("aws", Sight::Clear, &drain);
        assert_eq!(drain.phase(), Phase::Working);
        told.heed("aws", Sight::Advice, &drain);
        assert_eq!(drain.phase(), Phase::Finishing);
        let notice = Sight::Notice {
            left: Duration::ZERO,
            what: "terminate".into(),
        };
        told.heed("aws", notice, &drain);
        assert_eq!(drain.phase(), Phase::Draining);
        told.heed("aws", Sight::Clear, &drain);
        assert_eq!((drain.phase(), told.withdrawn), (Phase::Draining, true));
    }
}
