//! I8: no job without its image; no image is deleted while a job needs the image.

super::mutants! {
    a_submit_must_check_that_its_image_is_stored: "queue::retaining::a_submit_of_a_collected_image_is_refused_and_leaves_no_row" {
        "enqueue.sql": "nullif(excluded.upload, i.upload)" => "excluded.upload";
    }
    a_submit_must_not_name_an_object_that_a_delete_removed: "queue::lost_images::a_submit_whose_object_a_delete_removed_is_refused" {
        "enqueue.sql": "when excluded.upload <> all(i.voided) then" => "else";
        "../images/register.rs" at "insert into images as i": "and excluded.upload <> all(i.voided)" => "";
    }
    a_submit_must_increase_the_job_count_of_its_image: "queue::retaining::an_image_is_collected_after_its_last_job_is_purged" {
        "enqueue.sql": "jobs = i.jobs + excluded.jobs" => "jobs = excluded.jobs";
    }
    collect_must_keep_the_images_of_live_jobs: "queue::retaining::the_image_of_a_live_job_is_never_collected" {
        "../images/collect.rs" at "with unneeded as":
            "and not exists (select 1 from live_jobs j where j.owner = i.owner and j.image_sha256 = i.sha256)" => "";
    }
    collect_must_wait_for_the_grace_period: "queue::retaining::a_look_up_renews_the_grace_of_an_unneeded_image" {
        "../images/collect.rs" at "with unneeded as": "i.unused_since < now() - make_interval(secs => $1)" => "$1::float8 is not null";
    }
}

super::functions! {
    a_deleted_upload_must_not_become_an_image: "queue::lost_images::a_signed_upload_that_was_deleted_while_it_was_checked_is_no_image" {
        "name_upload": "and u.named_at is null and u.voided_at is null" => "";
        "purge_image": "set named_at = null, voided_at = now()" => "set named_at = null";
    }
    a_retry_must_hold_its_image: "queue::operating_races::a_purge_keeps_an_image_that_an_uncommitted_retry_needs" {
        "retry_job": "where (i.owner, i.sha256) in (select f.owner" => "where false and (i.owner, i.sha256) in (select f.owner";
    }
}
