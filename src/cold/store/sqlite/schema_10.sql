-- Version 10: when the bytes of a streamed answer came.
alter table answers add column timing text;
pragma user_version = 10;
