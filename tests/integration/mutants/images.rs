//! I8: no job without its image, and no image taken from a job that needs it.

super::mutants! {
    a_submit_needs_an_image_that_is_still_there: "queue::retaining::a_submit_over_an_image_that_went_meanwhile_is_refused_whole" {
        "enqueue.sql": "nullif(excluded.upload, i.upload)" => "excluded.upload";
    }
    a_submit_needs_to_count_for_its_image: "queue::retaining::an_image_goes_with_the_last_job_that_needs_it" {
        "enqueue.sql": "jobs = i.jobs + excluded.jobs" => "jobs = excluded.jobs";
    }
    collecting_needs_to_leave_live_jobs_their_images: "queue::retaining::the_image_of_a_live_job_is_never_collected" {
        "../images/collect.rs" at "with unneeded as":
            "and not exists (select 1 from live_jobs j where j.owner = i.owner and j.image_sha256 = i.sha256)" => "";
    }
    collecting_needs_its_grace: "queue::retaining::an_unneeded_image_stays_for_a_grace_that_every_question_renews" {
        "../images/collect.rs" at "with unneeded as": "i.unused_since < now() - make_interval(secs => $1)" => "$1::float8 is not null";
    }
}

super::functions! {
    a_retry_needs_to_hold_its_image: "queue::operating_races::an_image_that_a_retry_is_about_to_need_stays" {
        "retry_job": "where (i.owner, i.sha256) in (select f.owner" => "where false and (i.owner, i.sha256) in (select f.owner";
    }
}
