select v.version, v.state, v.retired_at is not null as "is_retired!"
from model_versions v join models m using (model_id)
where m.name = $1
  -- An alias never waits for a retired version.
  and (v.retired_at is not null and $2::text is null or v.retired_at is null and v.state <> 'ready')
  and ($3::int is null or v.version = $3) and ($4::bytea is null or v.digest = $4)
  -- The first version of a model that passes its trial gets the alias `default`.
  and ($2::text is null or v.alias_wanted = $2
       or $2 = 'default' and not exists (select 1 from model_aliases a where a.model_id = v.model_id and a.alias = 'default'))
order by v.version desc limit 1
