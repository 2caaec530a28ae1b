-- Version 1. Small rows in jobs; bodies in tables of their own, so that the queue stays small.
create table jobs (
    seq        integer primary key autoincrement,
    id         text    not null unique,
    owner      blob    not null,
    status     text    not null,
    route      text    not null,
    reason     text    not null,
    budget_ms  integer not null,
    elapsed_ms integer not null,
    created_at integer not null,
    expires_at integer not null,
    finished_at integer,
    attempts   integer not null,
    due        integer not null,
    error_code text,
    error_message text
) strict;
create index jobs_due on jobs (route, due) where status = 'queued';
create index jobs_expiry on jobs (expires_at) where finished_at is null;
create index jobs_finished on jobs (finished_at) where finished_at is not null;
create index jobs_owner on jobs (owner, seq);

create table requests (
    job_id  text primary key references jobs (id) on delete cascade,
    method  text not null,
    path    text not null,
    headers blob not null,
    body    blob not null
) strict;

create table answers (
    job_id  text primary key references jobs (id) on delete cascade,
    status  integer not null,
    headers blob not null,
    body    blob not null
) strict;

create table deliveries (
    webhook_id text primary key,
    job_id     text    not null unique references jobs (id) on delete cascade,
    url        text    not null,
    state      text    not null,
    due        integer,
    claimed    integer not null default 0,
    deliveries integer not null default 0,
    last_error text
) strict;
create index deliveries_due on deliveries (due) where state = 'pending';
pragma user_version = 1;
