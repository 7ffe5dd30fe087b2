-- Registers a version by its digest; the same digest again answers with the version that is there.
with model as (
    insert into models as m (name, is_default) values ($1, not exists (select 1 from models))
    on conflict (name) do update set name = m.name
    returning m.model_id
),
known as (
    select v.model_version_id, v.version from model_versions v join model using (model_id) where v.digest = $2
),
made as (
    insert into model_versions (model_id, version, digest, task, manifest, files)
    select model.model_id, coalesce((select max(v.version) from model_versions v where v.model_id = model.model_id), 0) + 1, $2, $3, $4, $5
    from model where not exists (select 1 from known)
    returning model_version_id, version
)
select model.model_id as "model_id!", v.model_version_id as "model_version_id!", v.version as "version!", v.is_new as "is_new!"
from model, (select *, false as is_new from known union all select *, true from made) v
