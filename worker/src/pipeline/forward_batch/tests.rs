use std::time::{Duration, Instant};

use super::{Batchable, Batcher, FailingSize, ForwardError, PassResult, forward_or_halve};

#[derive(Debug, Clone, Copy)]
struct Image {
    name: u8,
    version_id: i64,
    runs_alone: bool,
    waiting_since: Instant,
}

impl Batchable for Image {
    fn version_id(&self) -> i64 {
        self.version_id
    }

    fn runs_alone(&self) -> bool {
        self.runs_alone
    }

    fn waiting_since(&self) -> Instant {
        self.waiting_since
    }

    fn batch_max(&self) -> usize {
        3
    }
}

fn batcher(images: &[(u8, i64, bool)]) -> Batcher<Image> {
    let (batcher, start) = (Batcher::new(Duration::ZERO), Instant::now());
    for (index, &(name, version_id, runs_alone)) in images.iter().enumerate() {
        batcher.push(Image {
            name,
            version_id,
            runs_alone,
            waiting_since: start + Duration::from_nanos(index as u64),
        });
    }
    batcher
}

fn names(batcher: &Batcher<Image>) -> Vec<u8> {
    batcher
        .take()
        .images
        .iter()
        .map(|image| image.name)
        .collect()
}

#[test]
fn a_forward_batch_is_of_one_version_and_no_larger_than_the_best() {
    let batcher = batcher(&[
        (1, 7, false),
        (2, 8, false),
        (3, 7, false),
        (4, 7, false),
        (5, 7, false),
    ]);
    assert_eq!(names(&batcher), [1, 3, 4]);
    assert_eq!(
        names(&batcher),
        [2],
        "the version that has waited longest comes next"
    );
    assert_eq!(names(&batcher), [5]);
}

#[test]
fn a_suspect_image_runs_alone() {
    let batcher = batcher(&[(1, 7, false), (2, 7, true), (3, 7, false), (4, 7, false)]);
    assert_eq!(names(&batcher), [1]);
    assert_eq!(names(&batcher), [2]);
    assert_eq!(names(&batcher), [3, 4]);
}

fn failed(what: &str) -> ForwardError {
    ForwardError::Failed(what.into())
}

#[test]
fn only_the_images_that_cause_a_failure_fail() {
    let images: Vec<u8> = (0..8).collect();
    let mut count = 0;
    let halved = forward_or_halve(&images, &mut |batch: &[u8]| {
        count += 1;
        if batch.iter().any(|image| [2, 5].contains(image)) {
            return Err(failed("bad pixel"));
        }
        Ok(batch.iter().map(|image| image * 10).collect())
    });
    assert_eq!(halved.failing_size, None, "images are the cause");
    let results = halved.results;
    let outputs: Vec<_> = results
        .iter()
        .map(|result| result.output.as_ref().ok().copied())
        .collect();
    let expected = [
        Some(0),
        Some(10),
        None,
        Some(30),
        Some(40),
        None,
        Some(60),
        Some(70),
    ];
    assert_eq!(outputs, expected);
    assert_eq!((results[0].batch_size, results[1].batch_position), (2, 1));
    assert!(count <= 2 * images.len(), "{count} passes");
}

#[test]
fn a_forward_batch_that_does_not_fit_is_halved_until_it_does() {
    let mut sizes = Vec::new();
    let halved = forward_or_halve(&[(); 7], &mut |batch: &[()]| {
        sizes.push(batch.len());
        if batch.len() > 2 {
            return Err(ForwardError::OutOfMemory("7 GB".into()));
        }
        Ok(batch.to_vec())
    });
    let has_succeeded = |result: &PassResult<()>| result.output.is_ok();
    assert!(halved.results.iter().all(has_succeeded));
    assert_eq!(
        halved.failing_size, None,
        "the model records it as out of memory"
    );
    assert_eq!(sizes, [7, 4, 2, 2, 3, 2, 1]);
}

#[test]
fn a_size_that_fails_without_a_guilty_image_is_found() {
    let run = |works_up_to: usize, guilty: Option<usize>| {
        let images: Vec<usize> = (0..8).collect();
        let halved = forward_or_halve(&images, &mut |batch: &[usize]| {
            if batch.len() > works_up_to || guilty.is_some_and(|guilty| batch.contains(&guilty)) {
                return Err(failed("shape"));
            }
            Ok(batch.to_vec())
        });
        halved.failing_size
    };
    let failing = |images, works_up_to| {
        let cause = "shape".to_owned();
        Some(FailingSize {
            images,
            works_up_to,
            cause,
        })
    };
    assert_eq!(run(8, None), None);
    assert_eq!(run(4, None), failing(8, 4));
    assert_eq!(run(1, None), failing(2, 1));
    assert_eq!(run(8, Some(5)), None, "the image is the cause");
    assert_eq!(run(1, Some(5)), failing(2, 1), "beside the guilty image");
}

#[test]
fn a_lone_image_fails_without_another_pass() {
    let results = forward_or_halve(&[1], &mut |_: &[i32]| Err::<Vec<i32>, _>(failed("no")));
    let expected = PassResult {
        output: Err(failed("no")),
        batch_size: 1,
        batch_position: 0,
    };
    assert_eq!(results.results, [expected]);
}

#[test]
fn there_is_one_pass_on_a_lost_device() {
    let mut count = 0;
    let results = forward_or_halve(&[1, 2, 3], &mut |_: &[i32]| {
        count += 1;
        Err::<Vec<i32>, _>(ForwardError::DeviceLost("gone".into()))
    });
    assert_eq!((results.results.len(), count), (3, 1));
}
