-- Takes due deliveries in turn between owners, and between the hosts of each owner, so that silent hosts of one owner delay no other
-- owner. A destination is one owner's deliveries to one host. The lease is the time of the next attempt: without an outcome the
-- delivery is due again.
with recursive busy as (
    select * from unnest($4::text[], $5::text[], $6::int[]) as b(owner, host, sends)
),
busy_owner as (
    select owner, sum(sends) as sends from busy group by owner
),
busy_host as (
    select host, sum(sends) as sends from busy group by host
),
full_owners as (
    select array(select owner from busy_owner where sends >= $3::int) as names
),
-- Steps from destination to destination, whatever number of deliveries each has. After a hundred destinations of one owner the scan
-- goes on with the next owner. The next claim goes on where the scan stopped.
scan(owner, host, of_owner, is_last_of_owner, steps) as (
    select first.owner, first.host, 1, first.owner = any((select names from full_owners)::text[]), 1
    from (select d.owner, d.host from webhook_deliveries d where d.status = 'pending' and (d.owner, d.host) > ($8::text, $9::text)
          order by d.owner, d.host limit 1) first
    union all
    select next.owner, next.host, next.of_owner, next.of_owner >= 100 or next.owner = any((select names from full_owners)::text[]), s.steps + 1
    from scan s cross join lateral (
        select n.owner, n.host, case when n.owner = s.owner then s.of_owner + 1 else 1 end as of_owner from (
            (select d.owner, d.host from webhook_deliveries d
             where d.status = 'pending' and not s.is_last_of_owner and (d.owner, d.host) > (s.owner, s.host) order by d.owner, d.host limit 1)
            union all
            (select d.owner, d.host from webhook_deliveries d
             where d.status = 'pending' and s.is_last_of_owner and d.owner > s.owner order by d.owner, d.host limit 1)
        ) n
    ) next
    where s.steps < 400
),
-- The destinations of the oldest due deliveries too: many destinations that only wait for a later attempt hide no due delivery.
destination as materialized (
    select l.owner, l.host from (
        select owner, host from scan
        union
        select owner, host from (select d.owner, d.host from webhook_deliveries d where d.status = 'pending' and d.next_attempt_at <= now()
                                 order by d.next_attempt_at limit 500) oldest
    ) l
    where l.owner <> all((select names from full_owners)::text[])
),
waiting as (
    select l.owner, l.host, w.delivery_id, w.next_attempt_at,
           coalesce(b.sends, 0) + row_number() over (partition by l.owner, l.host order by w.next_attempt_at) as of_destination
    from destination l left join busy b on b.owner = l.owner and b.host = l.host
    cross join lateral (
        select d.delivery_id, d.next_attempt_at from webhook_deliveries d
        where d.status = 'pending' and d.owner = l.owner and d.host = l.host and d.next_attempt_at <= now()
        order by d.next_attempt_at limit $2::int
    ) w
),
-- One owner leaves a quarter of a host's sends to the other owners of that host.
by_host as (
    select w.*, coalesce(b.sends, 0) + row_number() over (partition by w.host order by w.of_destination, w.next_attempt_at) as of_host
    from waiting w left join busy_host b on b.host = w.host
    where w.of_destination <= $2 - $2 / 4
),
by_owner as (
    select h.*, coalesce(b.sends, 0) + row_number() over (partition by h.owner order by h.of_destination, h.next_attempt_at) as of_owner
    from by_host h left join busy_owner b on b.owner = h.owner
    where h.of_host <= $2
),
-- By key, and checked after the lock: a plan that was made over an empty table serves a full one.
due as materialized (
    select d.delivery_id
    from (select * from by_owner where of_owner <= $3 order by of_owner, next_attempt_at) w
    cross join lateral (
        select d.delivery_id, d.status, d.next_attempt_at from webhook_deliveries d
        where d.delivery_id = w.delivery_id offset 0 for no key update of d skip locked
    ) d
    where d.status = 'pending' and d.next_attempt_at <= now()
    limit $1
),
taken as (
    update webhook_deliveries d set lease_no = d.lease_no + 1, leased_until = now() + make_interval(secs => $7), next_attempt_at = now() + make_interval(secs => $7)
    from due where d.delivery_id = due.delivery_id
    returning d.*
),
-- Where the scan stopped early; else the beginning.
stopped as (
    select coalesce(max(owner), '') as owner, coalesce(max(host), '') as host from scan where steps = 400
)
select p.owner as "next_owner!", p.host as "next_host!",
       t.delivery_id as "delivery_id?", t.lease_no as "lease_no?", t.owner as "owner?", t.endpoint_id as "endpoint_id?", t.url as "url?", t.host as "host?",
       t.type as "event_type?", t.at as "at?", t.job_id as "job_id?", t.batch_id as "batch_id?", t.tries as "tries?", e.secret as "endpoint_secret?",
       s.secret as "owner_secret?",
       array(select o.secret from webhook_previous_secrets o where o.owner = t.owner and o.valid_until > now() order by o.valid_until desc) as "previous_secrets!"
from stopped p
left join taken t on true
left join webhook_endpoints e on e.endpoint_id = t.endpoint_id left join webhook_secrets s on s.owner = t.owner
order by t.at
