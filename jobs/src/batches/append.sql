with own as (
    update batches g
    set lines = $3, upload_lines = $3, refused = g.refused + cardinality($5::int[]), upload_sha256 = $4, heard_at = now()
    where g.batch_id = $1 and g.upload_no = $2 and g.sealed_at is null
    returning g.batch_id, g.cancel_requested_at is not null as canceled
),
refused as (
    insert into batch_refusals (batch_id, batch_line, custom_id, problem)
    select own.batch_id, r.position, r.custom_id, r.problem
    from own, unnest($5::int[], $6::text[], $7::jsonb[]) as r(position, custom_id, problem)
)
select canceled as "canceled!" from own
