with horizon as materialized (
    select (c.xact_offset + pg_snapshot_xmin(pg_current_snapshot())::text::bigint)::text::xid8 as xact from event_cluster c
),
fresh as (
    select e.owner, e.xact from events e
    where e.owner = any($1) and e.xact >= ($2::bigint)::text::xid8 and e.at > now() - interval '1 day'
)
select array(select distinct f.owner from fresh f, horizon h where f.xact < h.xact) as "owners!",
       h.xact::text::bigint as "horizon!",
       exists (select from fresh f where f.xact >= h.xact) as "held_back!"
from horizon h
