//! What a client is about to send, and the expected outcome.

use std::sync::Arc;

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use crate::photos::{Photos, Picture};

pub const CLASSIFIER: &str = tests::fixtures::CLASSIFIER;
pub const EMBEDDER: &str = tests::fixtures::EMBEDDER;
/// A model that fails on white images: `tests/fixtures/make_picky.py`.
pub const PICKY: &str = "picky";

/// The outcome at an undisturbed service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Result,
    Fails(&'static str),
    Refused,
    /// The client abandons the upload: there must be no job.
    Nothing,
}

/// One submit.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the submit, in the metadata of its job.
    pub tag: String,
    pub picture: Arc<Picture>,
    pub model: &'static str,
    pub key: Option<String>,
    pub multipart: bool,
    pub expect: Expect,
    /// Milliseconds between the submit and its cancel.
    pub cancel_after_ms: Option<u64>,
}

/// The next submits of a client: mostly one; sometimes a burst for the model `picky`, with one white image.
pub fn next(tag: &str, photos: &Photos, dice: &mut StdRng) -> Vec<Plan> {
    let good = |dice: &mut StdRng| Arc::new(photos.good.choose(dice).unwrap().clone());
    let one = |dice: &mut StdRng, picture, model, expect| Plan {
        tag: tag.to_owned(),
        picture,
        model,
        key: dice.random_bool(0.7).then(|| format!("key-{tag}")),
        multipart: dice.random_bool(0.3),
        expect,
        cancel_after_ms: dice.random_bool(0.12).then(|| dice.random_range(0..3_000)),
    };
    let number = dice.random_range(0..100);
    if number < 8 {
        let white = dice.random_range(0..6);
        let burst = (0..6).map(|index| {
            let (picture, expect) = if index == white {
                let white = Arc::new(photos.white.clone());
                (white, Expect::Fails("model_error"))
            } else {
                (good(dice), Expect::Result)
            };
            let mut plan = one(dice, picture, PICKY, expect);
            plan.tag = format!("{tag}-{index}");
            plan.key = plan.key.map(|key| format!("{key}-{index}"));
            plan.cancel_after_ms = None;
            plan
        });
        return burst.collect();
    }
    let (picture, model, expect) = match number {
        8..12 => (photos.refused.choose(dice), CLASSIFIER, Expect::Refused),
        12..20 => (
            photos.bad.choose(dice),
            CLASSIFIER,
            Expect::Fails("image_undecodable"),
        ),
        20..24 => (photos.good.choose(dice), CLASSIFIER, Expect::Nothing),
        24..45 => (photos.good.choose(dice), EMBEDDER, Expect::Result),
        _ => (photos.good.choose(dice), CLASSIFIER, Expect::Result),
    };
    let mut picture = picture.unwrap().clone();
    if dice.random_bool(0.4) {
        picture.make_unique(tag);
    }
    let picture = Arc::new(picture);
    vec![one(dice, picture, model, expect)]
}

/// The submit of the image that kills every worker that claims it.
pub fn poison(photos: &Photos) -> Plan {
    Plan {
        tag: "poison".into(),
        picture: Arc::new(photos.poison.clone()),
        model: CLASSIFIER,
        key: Some("key-poison".into()),
        multipart: false,
        expect: Expect::Fails("too_many_interruptions"),
        cancel_after_ms: None,
    }
}
