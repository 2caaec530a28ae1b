//! Gateways that die, leave and are cut off while jobs come in and are cancelled: each job ends once.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use super::{Member, SECOND, Town, job, request};
use crate::cold::job::Status;
use crate::cold::store::Store as _;
use crate::virtual_time::provider::Fate;
use crate::virtual_time::{PANICS, count_panics, identity, seed};

/// What happens, drawn from a seed.
struct Storm {
    town: Town,
    random: StdRng,
    members: Vec<Member>,
    /// Who is cut off, and until when.
    cut: Vec<Option<Instant>>,
}

impl Storm {
    async fn strikes(&mut self) {
        let at = self.random.random_range(0..self.members.len());
        let fault = self.random.random_range(0..3);
        if fault == 0 {
            let lasts = Duration::from_millis(self.random.random_range(500..20_000));
            self.members[at].store.reach.cut(true);
            self.cut[at] = Some(Instant::now() + lasts);
            return;
        }
        let new = self.town.join().await;
        let old = std::mem::replace(&mut self.members[at], new);
        self.cut[at] = None;
        if fault == 1 {
            old.dies().await;
        } else {
            old.leaves(SECOND).await;
        }
    }

    fn heal(&mut self, all: bool) {
        for (member, cut) in self.members.iter().zip(&mut self.cut) {
            if cut.is_some_and(|until| all || until <= Instant::now()) {
                member.store.reach.cut(false);
                *cut = None;
            }
        }
    }

    /// Jobs come in at any gateway, and some are cancelled at another.
    async fn traffic(&mut self, calls: u64) -> BTreeSet<String> {
        let mut promised = BTreeSet::new();
        let mut cancels = Vec::new();
        for call in 1..=calls {
            sleep(Duration::from_millis(self.random.random_range(300..1_000))).await;
            self.heal(false);
            if call % 12 == 0 {
                self.strikes().await;
            }
            let at = self.random.random_range(0..self.members.len());
            let job = job("demoting");
            let id = job.id.clone();
            let kept = self.members[at].store.insert(job, request(call, false));
            if kept.await.is_ok() {
                promised.insert(id.to_string());
            }
            if call % 9 == 0 {
                cancels.push(id);
            }
            if call % 9 == 5
                && let Some(id) = cancels.pop()
            {
                let at = self.random.random_range(0..self.members.len());
                let _ = self.members[at].house.runner.cancel_for_operator(&id).await;
            }
        }
        promised
    }
}

async fn storm(seed: u64) {
    count_panics();
    let town = Town::new(seed, &[Fate::AnswersLate], 0.05);
    let members = vec![town.join().await, town.join().await, town.join().await];
    let mut storm = Storm {
        random: StdRng::seed_from_u64(seed),
        members,
        cut: vec![None; 3],
        town,
    };
    let promised = storm.traffic(150).await;
    storm.heal(true);
    let town = &storm.town;
    town.all_end().await;
    let told = || town.told.lock().unwrap().clone();
    let all = town.rows().len();
    town.until("all ends are told", |_| told().len() == all)
        .await;
    for member in storm.members {
        member.leaves(SECOND).await;
    }
    let (told, rows) = (told(), town.rows());
    let mut deaths = 0;
    for row in &rows {
        let call = row.request.headers[1].1.clone();
        let call: u64 = String::from_utf8(call).unwrap().parse().unwrap();
        let lost = row.history.iter().filter(|one| one.result == "lost");
        let (lost, sent) = (lost.count(), town.sent(call));
        let text = format!("seed {seed}, call {call}, {:?}: {:?}", row.job, row.history);
        assert_eq!(row.ends, 1, "not one end: {text}");
        assert!(sent <= 1 + lost, "sent {sent} times: {text}");
        if row.job.status == Status::Succeeded {
            let answer = row.answer.as_ref().unwrap();
            assert_eq!(answer.body, identity::answer(call, false), "{text}");
        }
        let names: Vec<&str> = told[row.job.id.as_str()]
            .iter()
            .map(String::as_str)
            .collect();
        assert_eq!(names, [row.webhook_id().unwrap()], "{text}");
        deaths += lost;
    }
    let names: BTreeSet<_> = rows.iter().map(|row| row.job.id.to_string()).collect();
    assert!(promised.is_subset(&names), "a promised job is gone");
    let ended = |status| rows.iter().filter(|row| row.job.status == status).count();
    let (good, expired) = (ended(Status::Succeeded), ended(Status::Expired));
    let sent = town.ledger.book().sent.len();
    eprintln!(
        "seed {seed}: {all} jobs, {sent} calls, {deaths} attempts lost, {good} succeeded, {expired} expired"
    );
    assert!(deaths > 0 && good > all / 2, "the storm tells nothing");
    assert_eq!(town.ledger.book().running, 0, "calls are left at providers");
    assert!(
        town.ledger.book().faults.is_empty(),
        "{:?}",
        town.ledger.book().faults
    );
    assert_eq!(PANICS.get(), 0, "tasks panicked");
}

#[tokio::test(start_paused = true)]
async fn gateways_that_die_leave_and_are_cut_off_end_every_job_once() {
    for at in 0..4 {
        storm(seed(40) + at).await;
    }
}
