-- Takes what is due, some of each host: one that hangs keeps its own news back, not the others'. The lease is the time of the
-- next attempt: if nobody says what came of this one, the delivery is due again.
with busy as (
    select * from unnest($3::text[], $4::int[]) as b(host, sends)
),
waiting as (
    select w.delivery_id, w.host, row_number() over (partition by w.host order by w.next_attempt_at) as place
    from (select delivery_id, host, next_attempt_at from webhook_deliveries
          where status = 'pending' and next_attempt_at <= now() and host <> all(array(select b.host from busy b where b.sends >= $2))
          order by next_attempt_at limit 1000) w
),
due as materialized (
    select d.delivery_id from webhook_deliveries d join waiting w using (delivery_id) left join busy b on b.host = w.host
    where w.place <= $2 - coalesce(b.sends, 0) and d.status = 'pending' and d.next_attempt_at <= now()
    order by d.next_attempt_at limit $1 for no key update of d skip locked
),
taken as (
    update webhook_deliveries d set lease_no = d.lease_no + 1, leased_until = now() + make_interval(secs => $5), next_attempt_at = now() + make_interval(secs => $5)
    from due where d.delivery_id = due.delivery_id
    returning d.*
)
select t.delivery_id as "delivery_id!", t.lease_no as "lease_no!", t.owner as "owner!", t.endpoint_id, t.url as "url!", t.host as "host!",
       t.type as "event_type!", t.at as "at!", t.job_id, t.batch_id, t.tries as "tries!", e.secret as "endpoint_secret?",
       s.secret as "owner_secret?", case when s.previous_until > now() then s.previous_secret end as previous_secret
from taken t left join webhook_endpoints e on e.endpoint_id = t.endpoint_id left join webhook_secrets s on s.owner = t.owner
order by t.at
