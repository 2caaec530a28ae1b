-- Version 11: what belongs to a job is found by its number, so that a job that comes or ends writes pages
-- beside those of its neighbours in time, however many wait.
create table requests_11 (
    job     integer primary key references jobs (seq) on delete cascade,
    method  text    not null,
    path    text    not null,
    headers blob    not null,
    body    blob    not null,
    apart   integer,
    plain   integer not null default 0
) strict;
insert into requests_11 select j.seq, r.method, r.path, r.headers, r.body, r.apart, r.plain
    from jobs j join requests r on r.job_id = j.id order by j.seq;
drop table requests;
alter table requests_11 rename to requests;
create index requests_apart on requests (apart) where apart is not null;

create table answers_11 (
    job     integer primary key references jobs (seq) on delete cascade,
    status  integer not null,
    headers blob    not null,
    body    blob    not null,
    apart   integer,
    timing  text
) strict;
insert into answers_11 select j.seq, a.status, a.headers, a.body, a.apart, a.timing
    from jobs j join answers a on a.job_id = j.id order by j.seq;
drop table answers;
alter table answers_11 rename to answers;
create index answers_apart on answers (apart) where apart is not null;

create table deliveries_11 (
    job         integer primary key references jobs (seq) on delete cascade,
    webhook_id  text    not null unique,
    url         text    not null,
    state       text    not null,
    due         integer,
    claimed     integer not null default 0,
    deliveries  integer not null default 0,
    last_error  text,
    died_at     integer,
    replayed_at integer
) strict;
insert into deliveries_11 select j.seq, d.webhook_id, d.url, d.state, d.due, d.claimed, d.deliveries,
    d.last_error, d.died_at, d.replayed_at
    from jobs j join deliveries d on d.job_id = j.id order by j.seq;
drop table deliveries;
alter table deliveries_11 rename to deliveries;
create index deliveries_due on deliveries (due) where state = 'pending';
create index deliveries_dead on deliveries (died_at) where state = 'dead';

create table history_11 (
    seq     integer primary key,
    job     integer not null references jobs (seq) on delete cascade,
    number  integer not null,
    target  text,
    began   integer,
    ended   integer not null,
    result  text    not null,
    status  integer,
    error   text,
    gateway text    not null
) strict;
insert into history_11 select h.seq, j.seq, h.number, h.target, h.began, h.ended, h.result, h.status,
    h.error, h.gateway from history h join jobs j on j.id = h.job_id order by h.seq;
drop table history;
alter table history_11 rename to history;
create index history_job on history (job);

-- What runs and what is being delivered is found without a look at all that waits.
create index jobs_running on jobs (seq) where status = 'running';
create index deliveries_claimed on deliveries (job) where claimed = 1;
pragma user_version = 11;
