-- Version 7: callers take turns. What is due stands in the order in which it is taken; what is not due yet
-- stands apart, so that neither is looked through for the other.
alter table jobs add column priority integer not null default 4;
alter table jobs add column ready integer not null default 0;
drop index jobs_due;
create index jobs_ready on jobs (route, owner, priority desc, expires_at) where status = 'queued' and ready = 1;
create index jobs_later on jobs (route, due) where status = 'queued' and ready = 0;
pragma user_version = 7;
