//! Batches: a line is taken once, a batch ends once and only at its end; and no job answers for one it is not.

super::mutants! {
    an_uploader_needs_its_number: "queue::batches::uploading::an_upload_goes_on_behind_one_that_fell_silent_and_fences_it" {
        "../batches/append.sql": "g.upload_no = $2" => "$2::int is not null";
    }
    a_sealed_batch_needs_to_stay_closed: "queue::batches::uploading::an_abandoned_upload_is_sealed_and_what_came_of_it_runs" {
        "../batches/append.sql": "and g.sealed_at is null" => "",  "g.upload_no = $2" => "$2::int is not null";
    }
    an_upload_needs_to_be_silent_before_another_takes_over: "queue::batches::uploading::an_upload_goes_on_behind_one_that_fell_silent_and_fences_it" {
        "../batches/resume.sql": "g.heard_at < now() - make_interval(secs => $3)" => "$3::float8 is not null";
    }
    a_key_needs_to_make_one_batch: "queue::batches::uploading::one_key_stands_for_one_batch" {
        "../batches/begin.sql": "where $4::text is null or exists (select from key)" => "";
    }
    a_batch_needs_an_owner: "queue::batches::results_are_lines_in_order_by_ranges_of_their_numbers" {
        "../batches/results.rs" at "from ops.jobs": "and owner = $2" => "and $2::text is not null";
    }
    a_join_needs_a_job_that_will_end_for_it: "queue::predicting::only_a_job_that_ends_for_it_is_joined" {
        "predicted.sql": "and not j.cancel_requested" => "";
        "predicted.sql": "and j.deadline_at is null" => "";
        "predicted.sql": "and j.batch_id is null" => "";
        "predicted.sql": "j.priority >= $7" => "$7::smallint is not null";
        "predicted.sql": "(j.state in ('queued', 'running') or j.attempts_charged > 0) and" => "";
    }
    a_hit_needs_to_be_what_was_asked: "queue::predicting::only_a_success_over_the_same_question_is_a_hit" {
        "predicted.sql": "f.state = 'succeeded' and f.purged_at is null" => "true";
        "predicted.sql": "f.model_version_id = $3" => "$3::bigint is not null";
        "predicted.sql": "f.params = $4" => "$4::jsonb is not null";
        "predicted.sql": "and f.metadata = $5" => "";
    }
}

super::functions! {
    the_end_of_a_batch_needs_to_be_told: "queue::batches::ending::the_end_of_a_batch_is_one_event" {
        "finish_batch": "perform publish_event(whose, 'batch.completed', which);" => "";
    }
    a_batch_needs_to_wait_for_its_jobs: "queue::batches::ending::the_end_is_looked_for_anew_under_the_lock" {
        "finish_batch": "exists (select from live_jobs j where j.batch_id = which)" => "false";
    }
    a_retry_needs_to_open_its_batch: "queue::batches::ending::a_retried_job_opens_its_batch_again" {
        "retry_job": "if ended.batch_id is not null then" => "if false then";
    }
}
