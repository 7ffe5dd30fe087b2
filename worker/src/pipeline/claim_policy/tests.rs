use std::time::Duration;

use super::{ClaimPolicy, ClaimResult, ClaimSettings, Observed, Plan, Scope, Wait};

const POLL: Duration = Duration::from_millis(500);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn policy(ends_when_empty: bool) -> ClaimPolicy {
    ClaimPolicy::new(ClaimSettings {
        models: vec![],
        places: 64,
        busy_jobs: 8,
        poll_interval: POLL,
        ends_when_empty,
    })
}

/// A registered worker without jobs, a second after its start.
fn idle() -> Observed {
    Observed {
        now: ms(1000),
        is_working: true,
        is_registered: true,
        jobs_left: usize::MAX,
        free_places: 64,
        held_jobs: 0,
        crowded: None,
        has_outage: false,
        pause_left: Duration::ZERO,
        last_claim: None,
        look_again_in: None,
    }
}

/// A worker that holds `jobs` jobs.
fn holding(jobs: usize) -> Observed {
    Observed {
        free_places: 64 - jobs,
        held_jobs: jobs,
        ..idle()
    }
}

/// The worker has just claimed `jobs` jobs; they are done or held already.
fn claimed(jobs: usize, observed: Observed) -> Observed {
    let has_suspects = false;
    Observed {
        last_claim: Some(ClaimResult::Claimed { jobs, has_suspects }),
        ..observed
    }
}

fn failed() -> Observed {
    Observed {
        last_claim: Some(ClaimResult::Failed),
        ..idle()
    }
}

fn claim(limit: usize) -> Plan {
    claim_of(&[], Scope::All, limit)
}

fn claim_of(models: &[&str], scope: Scope, limit: usize) -> Plan {
    Plan::Claim {
        models: models.iter().map(ToString::to_string).collect(),
        scope,
        limit,
    }
}

/// Runs one policy through the cases, in order.
fn check(mut policy: ClaimPolicy, cases: impl IntoIterator<Item = (&'static str, Observed, Plan)>) {
    for (case, observed, plan) in cases {
        assert_eq!(policy.next(&observed), plan, "{case}");
    }
}

#[test]
fn the_first_plan_follows_from_what_is_observed() {
    for (case, observed, plan) in [
        ("an idle worker claims for all places", idle(), claim(64)),
        (
            "a draining worker stops",
            Observed {
                is_working: false,
                ..idle()
            },
            Plan::Stop,
        ),
        (
            "an unregistered worker waits",
            Observed {
                is_registered: false,
                ..idle()
            },
            Plan::Wait(Wait::Registration),
        ),
        (
            "--max-jobs bounds a claim",
            Observed {
                jobs_left: 5,
                ..idle()
            },
            claim(5),
        ),
        (
            "--max-jobs ends the worker",
            Observed {
                jobs_left: 0,
                ..idle()
            },
            Plan::Finish("claimed --max-jobs"),
        ),
        (
            "an outage pauses claims",
            Observed {
                has_outage: true,
                pause_left: ms(3000),
                ..idle()
            },
            Plan::Wait(Wait::Pause(ms(3000))),
        ),
        (
            "after the pause one job is claimed",
            Observed {
                has_outage: true,
                ..idle()
            },
            claim(1),
        ),
        (
            "a backlog waits for a quarter of the places",
            holding(60),
            Plan::Wait(Wait::FreePlaces(16, None)),
        ),
        (
            "more models than fit: one job of any",
            Observed {
                crowded: Some(vec!["a".into()]),
                ..idle()
            },
            claim_of(&[], Scope::AllWhileCrowded, 1),
        ),
        (
            "more models than fit: not beside other jobs",
            Observed {
                crowded: Some(vec!["a".into()]),
                ..holding(1)
            },
            Plan::Wait(Wait::NoHeldJobs),
        ),
    ] {
        check(policy(false), [(case, observed, plan)]);
    }
}

#[test]
fn after_a_full_claim_the_next_one_waits_only_for_places() {
    check(
        policy(false),
        [
            ("all places", idle(), claim(64)),
            (
                "full: there is more",
                claimed(64, holding(64)),
                Plan::Wait(Wait::FreePlaces(16, None)),
            ),
            ("a quarter is free", holding(44), claim(20)),
        ],
    );
}

#[test]
fn after_a_claim_that_is_not_full_the_worker_waits_for_a_wake_up() {
    for (look_again_in, longest) in [
        (None, POLL),
        (Some(ms(100)), ms(100)),
        (Some(ms(9000)), POLL),
    ] {
        let observed = Observed {
            look_again_in,
            ..claimed(5, holding(5))
        };
        let wait = Plan::Wait(Wait::QueuedJobs(longest));
        check(
            policy(false),
            [
                ("all places", idle(), claim(64)),
                ("not full", observed, wait),
            ],
        );
    }
}

#[test]
fn new_jobs_gather_while_enough_jobs_are_held() {
    let at = |after: u64, jobs| Observed {
        now: ms(1000 + after),
        ..holding(jobs)
    };
    let gather = |left| Plan::Wait(Wait::FreePlaces(56, Some(ms(left))));
    let start = || {
        [
            ("all places", idle(), claim(64)),
            (
                "not full",
                claimed(5, holding(5)),
                Plan::Wait(Wait::QueuedJobs(POLL)),
            ),
        ]
    };
    check(
        policy(false),
        start()
            .into_iter()
            .chain([("few are held: at once", at(0, 8), claim(56))]),
    );
    check(
        policy(false),
        start().into_iter().chain([
            ("enough are held: gather", at(0, 24), gather(100)),
            ("still enough", at(60, 20), gather(40)),
            ("the time is over", at(100, 20), claim(44)),
        ]),
    );
    check(
        policy(false),
        start().into_iter().chain([
            ("enough are held: gather", at(0, 64), gather(100)),
            (
                "no place is free: wait for one",
                at(100, 64),
                Plan::Wait(Wait::FreePlaces(1, None)),
            ),
            ("one is free", at(2000, 63), claim(1)),
        ]),
    );
}

#[test]
fn after_a_suspect_one_job_is_claimed_until_one_is_none() {
    let suspects = |jobs| Observed {
        last_claim: Some(ClaimResult::Claimed {
            jobs,
            has_suspects: true,
        }),
        ..idle()
    };
    check(
        policy(false),
        [
            ("all places", idle(), claim(64)),
            ("a suspect was among them", suspects(64), claim(1)),
            ("it was one again", suspects(1), claim(1)),
            ("it was none", claimed(1, idle()), claim(64)),
        ],
    );
}

#[test]
fn failed_claims_back_off_until_one_succeeds() {
    let backoff = |delay| Plan::Wait(Wait::Backoff(ms(delay)));
    check(
        policy(false),
        [
            ("claim", idle(), claim(64)),
            ("failed once", failed(), backoff(100)),
            ("again", idle(), claim(64)),
            ("failed twice", failed(), backoff(200)),
            ("again", idle(), claim(64)),
            ("a success", claimed(64, idle()), claim(64)),
            ("failed once", failed(), backoff(100)),
        ],
    );
}

#[test]
fn in_an_outage_the_one_claimed_job_decides_what_comes_next() {
    let outage = |observed| Observed {
        has_outage: true,
        ..observed
    };
    check(
        policy(false),
        [
            ("one job", outage(idle()), claim(1)),
            (
                "it is held",
                outage(claimed(1, holding(1))),
                Plan::Wait(Wait::NoHeldJobs),
            ),
            (
                "it found the outage again",
                Observed {
                    pause_left: ms(500),
                    ..outage(idle())
                },
                Plan::Wait(Wait::Pause(ms(500))),
            ),
            ("one job", outage(idle()), claim(1)),
            ("the outage is over", claimed(1, holding(1)), claim(63)),
        ],
    );
}

#[test]
fn while_crowded_loaded_models_are_claimed_until_they_have_no_more_jobs() {
    let crowded = |observed| Observed {
        crowded: Some(vec!["a".into(), "b".into()]),
        ..observed
    };
    let loaded = |limit| claim_of(&["a", "b"], Scope::Loaded, limit);
    let any = || claim_of(&[], Scope::AllWhileCrowded, 1);
    check(
        policy(false),
        [
            ("one job of any", crowded(idle()), any()),
            (
                "its model is being loaded",
                crowded(claimed(1, holding(1))),
                Plan::Wait(Wait::NoHeldJobs),
            ),
            ("jobs of the loaded", crowded(idle()), loaded(64)),
            (
                "all of them are done",
                crowded(claimed(64, idle())),
                loaded(64),
            ),
            (
                "not full: all models again",
                crowded(claimed(3, idle())),
                any(),
            ),
        ],
    );
}

#[test]
fn drain_ends_the_worker_after_two_empty_claims_in_a_row() {
    let empty = || claimed(0, idle());
    let wait = || Plan::Wait(Wait::QueuedJobs(POLL));
    let finish = || Plan::Finish("--drain: nothing left to claim");
    check(
        policy(true),
        [
            ("claim", idle(), claim(64)),
            ("empty", empty(), wait()),
            ("claim", idle(), claim(64)),
            ("a job", claimed(1, idle()), wait()),
            ("claim", idle(), claim(64)),
            ("empty", empty(), wait()),
            ("claim beside a job", holding(1), claim(63)),
            ("empty, but the job may come back", empty(), wait()),
            ("claim", idle(), claim(64)),
            (
                "empty, but jobs may be below the marks",
                Observed {
                    look_again_in: Some(ms(100)),
                    ..empty()
                },
                Plan::Wait(Wait::QueuedJobs(ms(100))),
            ),
            ("claim", idle(), claim(64)),
            ("empty", empty(), wait()),
            ("claim", idle(), claim(64)),
            ("empty twice", empty(), finish()),
        ],
    );
    check(
        policy(false),
        [
            ("claim", idle(), claim(64)),
            ("empty", empty(), wait()),
            ("claim", idle(), claim(64)),
            ("empty twice, without --drain", empty(), wait()),
        ],
    );
}
