-- Signed uploads, deletes of images, and images whose object is not what the database says.

-- The bytes of a signed upload do not pass through the API. So the row stands for the object until its URL can write no more.
create table signed_uploads (
    owner      text not null,
    sha256     bytea not null check (octet_length(sha256) = 32),
    upload     uuid not null,
    bytes      bigint not null check (bytes > 0),
    signed_at  timestamptz not null default now(),
    expires_at timestamptz not null,
    lapses_at  timestamptz not null,
    named_at   timestamptz,
    voided_at  timestamptz,
    primary key (owner, sha256, upload),
    constraint lapses_after_its_url check (lapses_at >= expires_at),
    constraint not_named_and_voided check (named_at is null or voided_at is null)
);
create index signed_uploads_lapsed on signed_uploads (lapses_at);
create index signed_uploads_counted on signed_uploads (owner) include (bytes) where named_at is null;
comment on table  signed_uploads is 'Uploads straight into the bucket: from the signature until the URL has expired and the object is an image or is gone. A row counts against the stored bytes of its owner while `named_at` is null.';
comment on column signed_uploads.expires_at is 'When the store refuses the URL.';
comment on column signed_uploads.lapses_at is 'From then on the upload cannot become an image, and housekeeping removes the row with its object.';
comment on column signed_uploads.named_at is 'When the upload became the image: from then on the row of the image counts the bytes.';
comment on column signed_uploads.voided_at is 'When a delete of the image ended the upload. Its URL may still write, so it counts until it lapses.';

-- Makes the image of a signed upload. A delete of the image locks the rows in this order too: either it comes first and the upload
-- is void, or it finds the image.
create function name_upload(of_owner text, digest bytea, of_upload uuid, of_type text, size bigint, pixels_wide int, pixels_high int) returns boolean
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    perform from images i where i.owner = of_owner and i.sha256 = digest for no key update;
    update signed_uploads u set named_at = now(), lapses_at = u.expires_at + interval '5 minutes'
    where u.owner = of_owner and u.sha256 = digest and u.upload = of_upload and u.named_at is null and u.voided_at is null and u.lapses_at > now();
    if not found then
        return false;
    end if;
    insert into images as i (owner, sha256, upload, content_type, bytes, width, height, unused_since)
    values (of_owner, digest, of_upload, of_type, size, pixels_wide, pixels_high, now())
    on conflict (owner, sha256) do update
    set upload = excluded.upload, purged_at = null, last_used_at = now(), unused_since = case when i.jobs = 0 then now() end
    where i.purged_at is not null and i.upload <> excluded.upload;
    if not found then
        -- Another upload of these bytes is the image: this object is one too many.
        update signed_uploads u set named_at = null, voided_at = now()
        where u.owner = of_owner and u.sha256 = digest and u.upload = of_upload;
        return false;
    end if;
    return true;
end $$;
comment on function name_upload is 'Makes an image of a signed upload whose object was checked. False: the upload has lapsed, was voided by a delete, or the owner has the image under another upload.';

create function purge_image(of_owner text, digest bytea, out outcome text, out uploads uuid[])
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    image_upload uuid; has_signed boolean;
begin
    -- Every submit of the image writes this row. While the row is locked no submit commits, and the next statement sees all
    -- submits that committed before.
    select i.upload into image_upload from images i
    where i.owner = of_owner and i.sha256 = digest and i.purged_at is null for no key update;
    if found and exists (select from live_jobs j where j.owner = of_owner and j.image_sha256 = digest) then
        outcome := 'needed';
        return;
    end if;
    has_signed := exists (
        select from signed_uploads u
        where u.owner = of_owner and u.sha256 = digest and u.named_at is null and u.voided_at is null and u.lapses_at > now());
    -- Also the uploads that became the image: their URLs may still write.
    with voided as (
        update signed_uploads u set named_at = null, voided_at = now(), lapses_at = greatest(now(), u.expires_at) + interval '5 minutes'
        where u.owner = of_owner and u.sha256 = digest and u.voided_at is null
        returning u.upload
    )
    select coalesce(array_agg(v.upload), '{}') into uploads from voided v;
    if image_upload is not null then
        update images i
        set purged_at = now(), unused_since = null, recent_jobs = '{}', reported_at = null, checked_at = null, damaged_at = null
        where i.owner = of_owner and i.sha256 = digest;
        uploads := array_remove(uploads, image_upload) || image_upload;
    end if;
    outcome := case when image_upload is not null or has_signed then 'purged' else 'not found' end;
end $$;
comment on function purge_image is 'Marks an image as deleted and ends its signed uploads. Answers purged and the uploads whose objects the caller then deletes, needed (by a live job), or not found.';

-- The objects of a submit that is under way have no row yet. The row of the image remembers those that are deleted: a submit that
-- waits for this lock sees the list (queue/enqueue.sql).
create function void_uploads(of_owner text, digest bytea, found_uploads uuid[]) returns uuid[]
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    image images; gone uuid[];
begin
    select i.* into image from images i where i.owner = of_owner and i.sha256 = digest for no key update;
    if not found then
        return '{}';
    end if;
    select coalesce(array_agg(distinct f.upload), '{}') into gone
    from unnest(found_uploads) as f(upload)
    where (image.purged_at is not null or f.upload <> image.upload)
      and not exists (select from signed_uploads u where u.owner = of_owner and u.sha256 = digest and u.upload = f.upload and u.voided_at is null);
    update images i
    set voided = (gone || array(select v from unnest(i.voided) v where v <> all(gone)))[1:1000]
    where i.owner = of_owner and i.sha256 = digest;
    return gone;
end $$;
comment on function void_uploads is 'Remembers that these uploads of a deleted image cannot become it any more. Answers those whose objects the caller then deletes: all but the image and signed uploads that were made after the delete.';

create function report_image(of_owner text, digest bytea, of_upload uuid) returns void
language sql security definer set search_path = pg_catalog, public, pg_temp as $$
    update images i set reported_at = now()
    where i.owner = of_owner and i.sha256 = digest and i.upload = of_upload and i.purged_at is null and i.reported_at is null
$$;
comment on function report_image is 'A worker found no object of this image, or other bytes. The worker may have another bucket, so the API looks for itself.';

select grant_privileges();
