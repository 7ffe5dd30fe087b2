select v.model_version_id as version_id, (extract(epoch from v.prefetch_at) * 1000000)::bigint as "asked_at!"
from model_versions v join models m using (model_id)
where v.prefetch_at > now() - interval '10 minutes' and v.state = 'ready' and v.retired_at is null
  and exists (select 1 from workers w where w.worker_id = $1 and w.ended_at is null and not w.draining
                                        and (cardinality(w.models) = 0 or m.name = any(w.models)))
order by v.prefetch_at limit 20
