-- Fenced: whoever lost the lease meanwhile has no say.
update webhook_deliveries d
set status = $3, tries = d.tries + 1, leased_until = null,
    next_attempt_at = case when $3 = 'pending' then now() + make_interval(secs => $4) end,
    ended_at = case when $3 <> 'pending' then now() end,
    log = case when jsonb_array_length(d.log) >= 50 then d.log - 0 else d.log end
          || jsonb_build_object('at', $5::timestamptz, 'status', $6::int, 'error', $7::text, 'took_ms', round($8::float8))
where d.delivery_id = $1 and d.lease_no = $2 and d.status = 'pending'
