-- Models: a name, its immutable versions, and the movable aliases that clients ask for.

create table models (
    model_id     bigint generated always as identity primary key,
    name         text not null unique,
    is_default   boolean not null default false,
    paused_at    timestamptz,
    pause_reason text,
    created_at   timestamptz not null default now(),
    constraint model_names_are_lowercase_words check (name ~ '^[a-z0-9][a-z0-9._-]{0,99}$')
);
create unique index at_most_one_default_model on models ((true)) where is_default;
comment on table  models is 'One row per model name.';
comment on column models.is_default is 'The model of jobs that name none; at most one.';
comment on column models.paused_at is 'While set, no worker claims jobs of this model.';

create table model_versions (
    model_version_id bigint generated always as identity primary key,
    model_id         bigint not null references models,
    version          int not null check (version > 0),
    digest           bytea not null check (octet_length(digest) = 32),
    task             text not null,
    manifest         jsonb not null,
    files            jsonb not null,
    created_at       timestamptz not null default now(),
    retired_at       timestamptz,
    unique (model_id, version),
    unique (model_id, digest)
);
comment on table  model_versions is 'Immutable: a manifest and the SHA-256 of each file it names.';
comment on column model_versions.digest is 'SHA-256 over the manifest and the digests of its files.';
comment on column model_versions.files is 'File name to SHA-256 in hex; the objects live under models/<sha256>.';

create table model_aliases (
    model_id         bigint not null references models,
    alias            text not null check (alias ~ '^[a-z][a-z0-9._-]{0,49}$'),
    model_version_id bigint not null references model_versions,
    updated_at       timestamptz not null default now(),
    primary key (model_id, alias)
);
comment on table model_aliases is 'Movable names of versions; a job stores the version that its alias meant at submit.';
