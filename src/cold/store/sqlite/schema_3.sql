-- Version 3: when a delivery was given up, and when it was begun anew.
alter table deliveries add column died_at integer;
alter table deliveries add column replayed_at integer;
create index deliveries_dead on deliveries (died_at) where state = 'dead';
pragma user_version = 3;
