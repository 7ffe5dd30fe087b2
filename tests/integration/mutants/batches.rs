//! Batches: a line is queued once, and a batch ends once. Prediction cache: only the job of an equal request answers.

super::mutants! {
    append_must_check_the_upload_number: "queue::batches::uploading::a_resumed_upload_fences_the_silent_upload" {
        "../batches/append.sql": "g.upload_no = $2" => "$2::int is not null";
    }
    append_must_refuse_a_sealed_batch: "queue::batches::uploading::an_abandoned_upload_is_sealed_and_its_jobs_run" {
        "../batches/append.sql": "and g.sealed_at is null" => "",  "g.upload_no = $2" => "$2::int is not null";
    }
    resume_must_refuse_while_the_first_upload_is_active: "queue::batches::uploading::a_resumed_upload_fences_the_silent_upload" {
        "../batches/resume.sql": "g.heard_at < now() - make_interval(secs => $3)" => "$3::float8 is not null";
    }
    one_key_must_begin_one_batch: "queue::batches::uploading::one_key_begins_one_batch" {
        "../batches/begin.sql": "where $4::text is null or exists (select from key)" => "";
    }
    batch_results_must_be_filtered_by_owner: "queue::batches::batch_results_are_read_by_ranges_of_line_numbers" {
        "../batches/results.rs" at "from ops.jobs": "and owner = $2" => "and $2::text is not null";
    }
    a_join_must_check_the_terms_of_the_live_job: "queue::prediction_cache::a_submit_does_not_join_a_job_with_worse_terms" {
        "matching_job.sql": "and not j.cancel_requested" => "";
        "matching_job.sql": "and j.deadline_at is null" => "";
        "matching_job.sql": "and j.batch_id is null" => "";
        "matching_job.sql": "j.priority >= $7" => "$7::smallint is not null";
        "matching_job.sql": "(j.state in ('queued', 'running') or j.attempts_charged > 0) and" => "";
    }
    a_hit_must_match_the_request: "queue::prediction_cache::only_the_success_of_an_equal_request_is_a_hit" {
        "matching_job.sql": "f.state = 'succeeded' and f.purged_at is null" => "true";
        "matching_job.sql": "f.model_version_id = $3" => "$3::bigint is not null";
        "matching_job.sql": "f.params = $4" => "$4::jsonb is not null";
        "matching_job.sql": "and f.metadata = $5" => "";
    }
}

super::functions! {
    the_end_of_a_batch_must_be_published: "queue::batches::ending::the_end_of_a_batch_is_published_once" {
        "finish_batch": "perform publish_event(whose, 'batch.completed', which);" => "";
    }
    a_batch_must_wait_for_its_jobs: "queue::batches::ending::finish_batch_checks_the_jobs_again_under_its_lock" {
        "finish_batch": "exists (select from live_jobs j where j.batch_id = which)" => "false";
    }
    a_retry_must_reopen_its_batch: "queue::batches::ending::a_retried_job_reopens_its_batch" {
        "retry_job": "if ended.batch_id is not null then" => "if false then";
    }
}
