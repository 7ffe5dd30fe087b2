select count(*) as "workers!", count(*) filter (where w.loaded @> jsonb_build_array(jsonb_build_object('model', $2::text))) as "loaded!"
from workers w
where w.ended_at is null and w.lease_until > now() and not w.draining and (cardinality(w.models) = 0 or $1::text = any(w.models))
