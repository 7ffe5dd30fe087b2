-- Below the oldest transaction that still runs nothing can be added any more: what is read in this order is read once, and
-- nothing comes in behind the reader. Ids of transactions of an earlier epoch are of another cluster: all of these have ended.
select e.epoch as "epoch!", e.xact::text as "xact!", e.event_no as "event_no!", coalesce(j.place, 0) as "place!", e.type as "event_type!", e.at as "at!", j.job_id as "job_id?", e.batch_id
from events e left join lateral unnest(e.job_ids) with ordinality as j(job_id, place) on true
where e.owner = $1 and (e.epoch, e.xact) < ((select epoch from event_epoch), pg_snapshot_xmin(pg_current_snapshot()))
  and (e.epoch, e.xact, e.event_no) >= ($8::bigint, $2::text::xid8, $3::bigint)
  and (e.epoch, e.xact, e.event_no, coalesce(j.place, 0)) > ($8::bigint, $2::text::xid8, $3::bigint, $4::bigint)
  and e.at >= $5
  and (cardinality($6::text[]) = 0 or e.type = any($6))
order by e.epoch, e.xact, e.event_no, coalesce(j.place, 0) limit $7
