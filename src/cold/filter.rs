//! What a page that lists jobs may be asked for.

use serde::Deserialize;
use serde_json::{Value, json};

use super::job::{Job, JobId, Owner, Status};
use super::store::{ListQuery, SharedStore, StoreError, asked};

/// Jobs in one answer, where it is not said how many.
const SOME: usize = 20;

/// The query of a page that lists jobs. A misspelt name is refused: without it more would be listed
/// than was asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    status: Option<String>,
    route: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

impl Filter {
    /// What the store is asked; `owner`: whose jobs, `most`: how many at most.
    ///
    /// # Errors
    /// A sentence: there is no such status, no such name, or nothing is asked for.
    pub fn query(self, owner: Option<Owner>, most: usize) -> Result<ListQuery, String> {
        let status = |text: String| {
            let all = Status::ALL.iter().map(|status| status.as_str());
            Status::parse(&text).ok_or_else(|| {
                let all: Vec<&str> = all.collect();
                format!("`{text}` is no status; use one of {}", all.join(", "))
            })
        };
        let limit = self.limit.unwrap_or(SOME).min(most);
        if limit == 0 {
            return Err("`limit=0` asks for nothing; use 1 or more".into());
        }
        let after = |text: String| {
            JobId::parse(&text).ok_or_else(|| format!("`{text}` is no job's id, `job_…`"))
        };
        Ok(ListQuery {
            owner,
            status: self.status.map(status).transpose()?,
            route: self.route,
            limit,
            after: self.after.map(after).transpose()?,
        })
    }
}

/// Why there is no list.
pub enum NoList {
    /// A sentence: the job after which it should begin is not there.
    NoSuchJob(String),
    /// The store does not say.
    Unavailable(StoreError),
}

impl From<StoreError> for NoList {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error)
    }
}

/// A page of jobs, and whether there are more. One that begins after a job that is not kept any more
/// is refused: it would look like the end of the list.
pub async fn listed(store: &SharedStore, mut query: ListQuery) -> Result<Value, NoList> {
    if let Some(after) = &query.after {
        let found = asked(store.get(after)).await?;
        let theirs = |job: &Job| query.owner.is_none_or(|owner| job.owner == owner);
        if !found.as_ref().is_some_and(theirs) {
            let sentence = format!("there is no job `{after}` any more; list from the start again");
            return Err(NoList::NoSuchJob(sentence));
        }
    }
    let limit = query.limit;
    query.limit += 1;
    let jobs = asked(store.list(query)).await?;
    Ok(in_list(jobs.iter().take(limit), jobs.len() > limit))
}

/// These jobs, as they are listed.
pub fn in_list<'a>(jobs: impl Iterator<Item = &'a Job>, more: bool) -> Value {
    let data: Vec<_> = jobs.map(Job::to_json).collect();
    json!({"object": "list", "data": data, "has_more": more})
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cold::store::memory::{Kept, MemoryStore};
    use crate::cold::store::suite::{NOW, answered, job, request};
    use crate::cold::store::{By, Store as _};

    /// One without a callback: nothing keeps it.
    fn plain() -> Job {
        Job {
            callback: None,
            ..job("chat", Status::Queued)
        }
    }

    #[test]
    fn a_list_of_nothing_that_says_there_is_more_is_not_given() {
        let of = |limit| Filter {
            status: None,
            route: None,
            limit,
            after: None,
        };
        assert!(of(Some(0)).query(None, 100).is_err());
        let limit = |asked| of(asked).query(None, 100).map(|query| query.limit);
        assert_eq!(
            [limit(None), limit(Some(7)), limit(Some(999))],
            [Ok(SOME), Ok(7), Ok(100)]
        );
    }

    #[tokio::test]
    async fn a_list_says_whether_there_is_more_and_does_not_end_in_silence() {
        let store = Arc::new(MemoryStore::open(&Kept::default(), 100));
        let jobs: Vec<Job> = (0..3).map(|_| plain()).collect();
        for one in &jobs {
            store.insert(one.clone(), request()).await.unwrap();
        }
        let shared: SharedStore = store.clone();
        let page = async |owner, after: Option<&JobId>| {
            let query = ListQuery {
                owner,
                limit: 2,
                after: after.cloned(),
                ..ListQuery::default()
            };
            let told = listed(&shared, query).await.ok()?;
            let data = told["data"].as_array().unwrap().len();
            Some((data, told["has_more"] == true))
        };
        let mine = Some(Owner::ANYONE);
        assert_eq!(page(mine, None).await, Some((2, true)));
        assert_eq!(page(mine, Some(&jobs[1].id)).await, Some((1, false)));
        assert_eq!(page(None, Some(&jobs[2].id)).await, Some((2, false)));
        let another = Some(Owner([1; 32]));
        assert_eq!(page(another, Some(&jobs[1].id)).await, None);
        store
            .finish(&jobs[1].id, By::Order, answered(), NOW)
            .await
            .unwrap();
        let later = NOW.plus(std::time::Duration::from_secs(1));
        assert_eq!(store.sweep(9, later).await.unwrap(), 1);
        assert_eq!(page(mine, Some(&jobs[1].id)).await, None);
    }
}
