-- Images: the uploaded inputs, and the sweep for objects without a row.

-- Every upload has its own object. So an object that is being deleted and an object of a new upload are never the same
-- object, in whatever order the two happen; the row says which object is the image.
create table images (
    owner        text not null,
    sha256       bytea not null check (octet_length(sha256) = 32),
    upload       uuid not null default '00000000-0000-0000-0000-000000000000',
    content_type text not null,
    bytes        bigint not null check (bytes > 0),
    width        int not null check (width > 0),
    height       int not null check (height > 0),
    created_at   timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    jobs         bigint not null default 0,
    recent_jobs  uuid[] not null default '{}',
    unused_since timestamptz,
    purged_at    timestamptz,
    reported_at  timestamptz,
    checked_at   timestamptz,
    damaged_at   timestamptz,
    voided       uuid[] not null default '{}',
    primary key (owner, sha256),
    constraint counted_by_its_jobs check (jobs >= 0)
) with (fillfactor = 80);
create index images_unused on images (unused_since) where unused_since is not null and purged_at is null;
create index images_reported on images (checked_at nulls first) where reported_at is not null and purged_at is null;
comment on table  images is 'Uploaded images, content-addressed per owner: owners share nothing.';
comment on column images.upload is 'Names the object within owner and digest.';
comment on column images.jobs is 'Jobs with this input whose data was not purged; while there is one, the image stays.';
comment on column images.recent_jobs is 'The last eight jobs over this image, newest first: the prediction cache looks here (docs/adr/0010-prediction-cache.md).';
comment on column images.unused_since is 'When the last job of the image was purged, or when a client last asked about the image since; the image is collected after a grace period.';
comment on column images.reported_at is 'When a worker first found no object, or an object with other bytes. The API then looks for itself.';
comment on column images.checked_at is 'When the API last looked, if the object was not the image.';
comment on column images.damaged_at is 'Since when the API knows that the object is lost or has other bytes. The next upload of the image puts the object back.';
comment on column images.voided is 'Uploads whose objects a delete of the image removed while no row named them: a submit that was under way cannot name them any more.';
comment on column images.purged_at is 'When the object was deleted; the row stays, so that jobs can still describe their input.';

create table orphan_sweep (
    singleton boolean primary key default true check (singleton),
    after_key text not null default '',
    swept_at  timestamptz not null default now(),
    passes    bigint not null default 0
);
insert into orphan_sweep default values;
comment on table orphan_sweep is 'How far the search for objects without a row has come in the bucket; one process at a time moves it on.';

-- One row, once an API process has used the bucket.
create table bucket_marker (
    singleton  boolean primary key default true check (singleton),
    marker     uuid not null default gen_random_uuid(),
    bucket     text not null,
    endpoint   text not null,
    written_at timestamptz not null default now()
);
comment on table  bucket_marker is 'Names the object that an API process put into the bucket of this database. A process that does not find the object has another bucket.';
comment on column bucket_marker.marker is 'The object is markers/ with these 32 hex digits.';
comment on column bucket_marker.bucket is 'The bucket, by the API process that put the object there last; for people.';
comment on column bucket_marker.endpoint is 'The endpoint, by that process. Another process may reach the bucket by another endpoint.';

create table bucket_checks (
    program        text not null,
    process        text not null,
    checked_at     timestamptz not null default now(),
    fault          text,
    missing_rights text[] not null default '{}',
    primary key (program, process)
);
comment on table  bucket_checks is 'The last check of its bucket by each process. A check of a process that is gone is removed after an hour.';
comment on column bucket_checks.program is 'api or worker.';
comment on column bucket_checks.process is 'Name of the worker; host and process id of an API process.';
comment on column bucket_checks.fault is 'Why the process cannot use its bucket, and what to check; null: it can.';
comment on column bucket_checks.missing_rights is 'Rights of S3 that the process lacks but can do without for a while.';
