//! Deliveries of callbacks in memory.

use super::rows::{GatewayId, Row, Rows};
use crate::cold::job::{CallbackStatus, Job, JobId, UnixMillis, webhook_id};
use crate::cold::store::{Delivery, DeliveryOutcome};

/// A job's delivery.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub name: String,
    pub due: Option<UnixMillis>,
    /// Who has it.
    pub claimed: Option<GatewayId>,
    pub died: Option<UnixMillis>,
    pub replayed: Option<UnixMillis>,
}

impl Told {
    pub fn new() -> Self {
        Self {
            name: webhook_id(),
            due: None,
            claimed: None,
            died: None,
            replayed: None,
        }
    }
}

impl Rows {
    pub(super) fn claim_deliveries(
        &mut self,
        gateway: GatewayId,
        limit: usize,
        now: UnixMillis,
        until: UnixMillis,
    ) -> Vec<Delivery> {
        let mut due: Vec<(UnixMillis, &mut Row)> = self
            .all
            .values_mut()
            .filter_map(|row| {
                let pending = row.job.callback.as_ref()?.status == CallbackStatus::Pending;
                let due = row.delivery.as_ref()?.due?;
                (pending && due <= now).then_some((due, row))
            })
            .collect();
        due.sort_by_key(|(due, _)| *due);
        let claim = |(_, row): (UnixMillis, &mut Row)| {
            let told = row.delivery.as_mut()?;
            (told.due, told.claimed) = (Some(until), Some(gateway));
            Some(Delivery {
                webhook_id: told.name.clone(),
                since: told.replayed.or(row.job.finished_at).unwrap_or(now),
                job: row.job.clone(),
            })
        };
        due.into_iter().take(limit).filter_map(claim).collect()
    }

    pub(super) fn delivered(&mut self, name: &str, outcome: DeliveryOutcome) {
        let mut rows = self.all.values_mut();
        let named = |row: &&mut Row| row.delivery.as_ref().is_some_and(|one| one.name == name);
        let Some(row) = rows.find(named) else {
            return;
        };
        let (Some(callback), Some(told)) = (&mut row.job.callback, &mut row.delivery) else {
            return;
        };
        let acknowledged = matches!(outcome, DeliveryOutcome::Delivered);
        if callback.status != CallbackStatus::Pending && !acknowledged {
            return;
        }
        let (status, due, died, error) = match outcome {
            DeliveryOutcome::Delivered => (CallbackStatus::Delivered, None, None, None),
            DeliveryOutcome::Later { at, error } => {
                (CallbackStatus::Pending, Some(at), None, Some(error))
            }
            DeliveryOutcome::Dead { at, error } => {
                (CallbackStatus::Dead, None, Some(at), Some(error))
            }
            DeliveryOutcome::PutOff { at, why } => {
                (told.due, told.claimed) = (Some(at), None);
                callback.last_error = why.or(callback.last_error.take());
                return;
            }
        };
        callback.status = status;
        callback.deliveries += 1;
        callback.last_error = error;
        (told.due, told.died, told.claimed) = (due, died, None);
    }

    pub(super) fn dead(&self, limit: usize) -> Vec<Job> {
        let died = |row: &Row| row.delivery.as_ref().and_then(|told| told.died);
        let mut dead: Vec<_> = self
            .all
            .values()
            .filter_map(|row| Some((died(row)?, &row.job)))
            .collect();
        dead.sort_by_key(|(died, _)| std::cmp::Reverse(*died));
        let jobs = dead.into_iter().take(limit);
        jobs.map(|(_, job)| job.clone()).collect()
    }

    pub(super) fn replay(&mut self, id: &JobId, now: UnixMillis) -> Option<Job> {
        let (_, row) = self.row(id)?;
        let (callback, told) = (row.job.callback.as_mut()?, row.delivery.as_mut()?);
        if told.claimed.is_some() || row.job.finished_at.is_none() {
            return None;
        }
        (callback.status, callback.deliveries) = (CallbackStatus::Pending, 0);
        (told.due, told.died, told.replayed) = (Some(now), None, Some(now));
        Some(row.job.clone())
    }
}
