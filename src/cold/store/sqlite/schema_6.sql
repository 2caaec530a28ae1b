-- Version 6: how often a job was taken to be run. Who runs it needs no column: one gateway has the file.
alter table jobs add column fence integer not null default 0;
pragma user_version = 6;
