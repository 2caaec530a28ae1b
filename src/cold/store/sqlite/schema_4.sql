-- Version 4: jobs in OpenAI's background shape: the request's model and metadata as JSON.
alter table jobs add column background text;
pragma user_version = 4;
