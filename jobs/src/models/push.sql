-- Registers a version by its digest; the same digest again answers with the version that is there.
-- $6: whether a worker tries a new version before it is ready, and before its model may be the default one. $7: the alias that it gets then.
with model as (
    insert into models as m (name, is_default) values ($1, not $6 and not exists (select 1 from models where is_default))
    on conflict (name) do update set is_default = m.is_default or excluded.is_default
    returning m.model_id
),
known as (
    select v.model_version_id, v.version from model_versions v join model using (model_id) where v.digest = $2
),
made as (
    insert into model_versions (model_id, version, digest, task, manifest, files, state, alias_wanted)
    select model.model_id, coalesce((select max(v.version) from model_versions v where v.model_id = model.model_id), 0) + 1, $2, $3, $4, $5,
           case when $6 then 'validating' else 'ready' end, case when $6 then $7 end
    from model where not exists (select 1 from known)
    returning model_version_id, version
)
select model.model_id as "model_id!", v.model_version_id as "model_version_id!", v.version as "version!", v.is_new as "is_new!"
from model, (select *, false as is_new from known union all select *, true from made) v
