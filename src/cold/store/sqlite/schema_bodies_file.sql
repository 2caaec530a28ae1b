-- Version 1 of the file of large bodies. Pages of 16 KiB, so that a chunk is few of them.
create table bodies (
    name integer primary key,
    size integer not null
) strict;

create table chunks (
    seq    integer primary key,
    body   integer not null,
    number integer not null,
    bytes  blob    not null
) strict;
create unique index chunks_body on chunks (body, number);
pragma user_version = 1;
