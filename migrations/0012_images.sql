-- Images: the last jobs over each (the prediction cache, docs/adr/0010-prediction-cache.md), and deleting one by hand.

alter table images add column recent_jobs uuid[] not null default '{}';
comment on column images.recent_jobs is 'The last eight jobs over this image, newest first: where a submit of the same looks for its answer.';

-- Marks an image as deleted that no live job needs; who called then deletes the object.
create function purge_image(of_owner text, digest bytea, out outcome text, out upload uuid)
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    -- Submits write this row: under its lock none commits, and the next statement sees those that did.
    select i.upload into upload from images i
    where i.owner = of_owner and i.sha256 = digest and i.purged_at is null for no key update;
    if not found then
        outcome := 'not found';
    elsif exists (select from live_jobs j where j.owner = of_owner and j.image_sha256 = digest) then
        outcome := 'needed';
    else
        update images i set purged_at = now(), unused_since = null, recent_jobs = '{}' where i.owner = of_owner and i.sha256 = digest;
        outcome := 'purged';
    end if;
end $$;
comment on function purge_image is 'purged, with the upload whose object is to be deleted; needed by a live job; or not found.';

create or replace function grant_batch_privileges() returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    revoke execute on function finish_batch(uuid), purge_image(text, bytea), grant_batch_privileges() from public;
    if to_regrole('darkroom_api') is not null then
        grant select, insert, update, delete on batches, batch_refusals to darkroom_api;
        grant execute on function finish_batch(uuid), purge_image(text, bytea) to darkroom_api;
    end if;
end $$;
comment on function grant_batch_privileges is 'The part of grant_privileges that concerns batches, and images that are deleted by hand.';
select grant_batch_privileges();
