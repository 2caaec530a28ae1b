-- Version 2: scopes, and what became of calls under an Idempotency-Key.
alter table jobs add column scope text;
create index jobs_scope on jobs (owner, scope) where scope is not null and finished_at is null;

create table kept (
    name    blob primary key,
    print   blob    not null,
    at      integer not null,
    job_id  text,
    status  integer,
    headers blob,
    body    blob
) strict, without rowid;
create index kept_at on kept (at);
pragma user_version = 2;
