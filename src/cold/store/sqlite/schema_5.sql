-- Version 5: what became of each attempt, for operators; and a row that is written to see that one can write.
create table history (
    seq     integer primary key,
    job_id  text    not null references jobs (id) on delete cascade,
    number  integer not null,
    target  text,
    began   integer,
    ended   integer not null,
    result  text    not null,
    status  integer,
    error   text,
    gateway text    not null
) strict;
create index history_job on history (job_id);

create table probe (one integer primary key, room blob not null) strict;
pragma user_version = 5;
