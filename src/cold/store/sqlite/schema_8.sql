-- Version 8: large bodies stand in a file of their own and rows name them; header lines come as the
-- store is given them, sealed or not (0: sealed by the store of before, as a whole).
alter table requests add column apart integer;
alter table requests add column plain integer not null default 0;
alter table answers add column apart integer;
alter table kept add column apart integer;
create index requests_apart on requests (apart) where apart is not null;
create index answers_apart on answers (apart) where apart is not null;
create index kept_apart on kept (apart) where apart is not null;
pragma user_version = 8;
