-- Version 7: callers take turns. What is due stands in the order in which it is taken; what is not due yet
-- stands apart, so that neither is looked through for the other.
alter table jobs add column priority integer not null default 4;
alter table jobs add column ready integer not null default 0;
drop index jobs_due;
create index jobs_ready on jobs (route, owner, priority desc, expires_at) where status = 'queued' and ready = 1;
create index jobs_later on jobs (route, due) where status = 'queued' and ready = 0;

-- How many jobs stand where, kept as they move: to count a million takes as long as to run hundreds.
create table tally (
    route  text    not null,
    status text    not null,
    jobs   integer not null,
    primary key (route, status)
) strict, without rowid;
insert into tally select route, status, count(*) from jobs group by route, status;
create trigger jobs_come after insert on jobs begin
    insert into tally values (new.route, new.status, 1)
        on conflict (route, status) do update set jobs = jobs + 1;
end;
create trigger jobs_move after update of status on jobs when new.status <> old.status begin
    update tally set jobs = jobs - 1 where route = old.route and status = old.status;
    insert into tally values (new.route, new.status, 1)
        on conflict (route, status) do update set jobs = jobs + 1;
end;
create trigger jobs_go after delete on jobs begin
    update tally set jobs = jobs - 1 where route = old.route and status = old.status;
end;
pragma user_version = 7;
