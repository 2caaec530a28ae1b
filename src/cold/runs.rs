//! The jobs that run on this gateway, each under the fence that it was taken with.
//!
//! Promises: a job runs here at most once; whoever stops a run says why; a job's end stops only
//! runs that began before it. Bounded by the slots of the routes. Never on the hot path.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::job::{Job, JobId, Status};

/// Why a run was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The job ended.
    Ended,
    /// Another run took the job.
    Taken,
}

/// Stops a run; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Stopped>);

#[derive(Debug, Default)]
struct Stopped {
    token: CancellationToken,
    taken: AtomicBool,
}

impl Stop {
    fn stop(&self, why: Why) {
        self.0.taken.store(why == Why::Taken, Ordering::Release);
        self.0.token.cancel();
    }

    /// Waits until the run is stopped.
    pub async fn stopped(&self) -> Why {
        self.0.token.cancelled().await;
        if self.0.taken.load(Ordering::Acquire) {
            Why::Taken
        } else {
            Why::Ended
        }
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[derive(Clone)]
struct Run {
    fence: u64,
    /// Another gateway may have taken it, or it may have ended.
    doubtful: bool,
    /// Its end was asked for, and it is not known whether that was written, or will be.
    ending: bool,
    stop: Stop,
}

/// What runs here.
#[derive(Default)]
pub struct Runs(Mutex<HashMap<JobId, Run>>);

#[cfg(test)]
impl Clone for Runs {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.lock().clone()))
    }
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Run>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job was taken under this fence. Gives what stops its run; `None`: it ran here already, had
    /// only lost its lease and was taken back, so that run goes on under the new fence.
    pub fn enter(&self, id: &JobId, fence: u64) -> Option<Stop> {
        let mut runs = self.lock();
        if let Some(run) = runs.get_mut(id) {
            if run.fence + 1 == fence {
                (run.fence, run.doubtful) = (fence, run.ending);
                return None;
            }
            run.stop.stop(Why::Taken);
        }
        let stop = Stop::default();
        let run = Run {
            fence,
            doubtful: false,
            ending: false,
            stop: stop.clone(),
        };
        runs.insert(id.clone(), run);
        Some(stop)
    }

    /// The fence under which this run may write now; `None`: it was stopped.
    pub fn fence(&self, id: &JobId, stop: &Stop) -> Option<u64> {
        let runs = self.lock();
        runs.get(id)
            .filter(|run| run.stop.is(stop))
            .map(|run| run.fence)
    }

    /// The run has written its last under this fence. `false`: it was taken back meanwhile under
    /// another, so that it must be written again.
    pub fn leave(&self, id: &JobId, stop: &Stop, fence: u64) -> bool {
        let mut runs = self.lock();
        let Some(run) = runs.get(id).filter(|run| run.stop.is(stop)) else {
            return true;
        };
        if run.fence != fence {
            return false;
        }
        runs.remove(id);
        true
    }

    /// The job ended as it stands there: what ran of it before is stopped.
    pub fn ended(&self, job: &Job) {
        let mut runs = self.lock();
        if runs.get(&job.id).is_some_and(|run| run.fence <= job.fence)
            && let Some(run) = runs.remove(&job.id)
        {
            run.stop.stop(Why::Ended);
        }
    }

    /// Another gateway may have taken or ended this job. Gives whether it runs here.
    pub fn doubt(&self, id: &JobId) -> bool {
        let mut runs = self.lock();
        let found = runs.get_mut(id);
        found.is_some_and(|run| {
            run.doubtful = true;
            true
        })
    }

    /// Its end is about to be written: until that is known, it is doubtful whatever the store says.
    pub fn ends(&self, id: &JobId) {
        if let Some(run) = self.lock().get_mut(id) {
            (run.doubtful, run.ending) = (true, true);
        }
    }

    /// Other gateways may have taken or ended any of them.
    pub fn doubt_all(&self) {
        for run in self.lock().values_mut() {
            run.doubtful = true;
        }
    }

    /// Those of which it is not known whether they are still ours.
    pub fn doubtful(&self) -> Vec<JobId> {
        let runs = self.lock();
        let doubtful = runs.iter().filter(|(_, run)| run.doubtful);
        doubtful.map(|(id, _)| id.clone()).collect()
    }

    /// What the store says of a doubtful one: stopped if it ended or was taken, ours if it runs under
    /// our fence, and doubtful as long as it waits for whoever takes it first.
    pub fn judge(&self, job: &Job) {
        let mut runs = self.lock();
        let Some(run) = runs.get_mut(&job.id) else {
            return;
        };
        // Read before it was taken under the fence that is known here.
        if job.fence < run.fence {
            return;
        }
        let why = if job.fence > run.fence {
            Why::Taken
        } else if job.status.is_final() {
            Why::Ended
        } else {
            run.doubtful = run.ending || job.status != Status::Running;
            return;
        };
        if let Some(run) = runs.remove(&job.id) {
            run.stop.stop(why);
        }
    }

    /// Whether it runs here.
    pub fn has(&self, id: &JobId) -> bool {
        self.lock().contains_key(id)
    }

    /// How many run here.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Their names and fences.
    pub fn all(&self) -> Vec<(JobId, u64)> {
        let runs = self.lock();
        runs.iter()
            .map(|(id, run)| (id.clone(), run.fence))
            .collect()
    }
}
