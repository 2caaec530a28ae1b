//! What a page that lists jobs may be asked for.

use serde::Deserialize;

use super::job::{JobId, Owner, Status};
use super::store::ListQuery;

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
    /// A sentence: there is no such status, or no such name.
    pub fn query(self, owner: Option<Owner>, most: usize) -> Result<ListQuery, String> {
        let status = |text: String| {
            let all = Status::ALL.iter().map(|status| status.as_str());
            Status::parse(&text).ok_or_else(|| {
                let all: Vec<&str> = all.collect();
                format!("`{text}` is no status; use one of {}", all.join(", "))
            })
        };
        let after = |text: String| {
            JobId::parse(&text).ok_or_else(|| format!("`{text}` is no job's id, `job_…`"))
        };
        Ok(ListQuery {
            owner,
            status: self.status.map(status).transpose()?,
            route: self.route,
            limit: self.limit.unwrap_or(SOME).min(most),
            after: self.after.map(after).transpose()?,
        })
    }
}
