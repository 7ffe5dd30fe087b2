-- Below the oldest transaction that still runs nothing can be added any more: what is read in this order is read once, and
-- nothing comes in behind the reader.
select e.xact::text as "xact!", e.event_no as "event_no!", coalesce(j.place, 0) as "place!", e.type as "event_type!", e.at as "at!", j.job_id as "job_id?", e.batch_id
from events e left join lateral unnest(e.job_ids) with ordinality as j(job_id, place) on true
where e.owner = $1
  and e.xact < (select (c.xact_offset + pg_snapshot_xmin(pg_current_snapshot())::text::bigint)::text::xid8 from event_cluster c)
  and (e.xact, e.event_no) >= ($2::text::xid8, $3::bigint)
  and (e.xact, e.event_no, coalesce(j.place, 0)) > ($2::text::xid8, $3::bigint, $4::bigint)
  and e.at >= $5
  and (cardinality($6::text[]) = 0 or e.type = any($6))
order by e.xact, e.event_no, coalesce(j.place, 0) limit $7
