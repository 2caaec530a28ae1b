//! Tells other gateways what this one wrote: `NOTIFY`, outside of the transactions that wrote.
//!
//! Promises: nobody who writes waits for it; what comes while the last is sent goes together; where
//! too much comes, or it could not be sent, the others are told to look at everything.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::link::{Link, backoff};
use crate::cold::job::JobId;
use crate::cold::store::News;

/// The channel of every gateway on a database.
pub(super) const CHANNEL: &str = "shunt";

/// News that may wait.
const WAITING: usize = 8_192;

/// What comes within this of the first goes with it.
const TOGETHER: Duration = Duration::from_millis(2);

/// Bytes of one payload; PostgreSQL takes fewer than 8,000.
const PAYLOAD: usize = 7_900;

/// Payloads in one statement.
const PAYLOADS: usize = 16;

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Line {
    News(String),
    /// To hear oneself: whether notifications arrive at all.
    Probe,
}

/// Tells; clones share it.
#[derive(Clone)]
pub(super) struct Teller {
    queue: mpsc::Sender<Line>,
    /// Something could not be told.
    missed: Arc<AtomicBool>,
}

/// The news of a line; the first letter is its kind.
fn read(line: &str) -> Option<News> {
    let (kind, rest) = line.split_at_checked(1)?;
    match kind {
        "d" => Some(News::Due(rest.to_owned())),
        "c" => JobId::parse(rest).map(News::Changed),
        "e" => JobId::parse(rest).map(News::Ended),
        "b" => Some(News::Callback),
        // A kind that a newer gateway knows.
        _ => Some(News::Missed),
    }
}

fn written(news: News) -> String {
    match news {
        News::Due(route) => format!("d{route}"),
        News::Changed(id) => format!("c{id}"),
        News::Ended(id) => format!("e{id}"),
        News::Callback => "b".into(),
        News::Missed => "m".into(),
    }
}

/// What a payload tells a gateway.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Its own words.
    Own,
    /// Others' news.
    Others(Vec<News>),
}

/// Reads a payload: who sent it, and a line for each.
pub(super) fn heard(own: i64, payload: &str) -> Heard {
    let mut lines = payload.lines();
    if lines.next().is_some_and(|from| from == own.to_string()) {
        return Heard::Own;
    }
    Heard::Others(lines.filter_map(read).collect())
}

/// Lines as payloads, none of them too long.
fn payloads(own: i64, lines: &HashSet<Line>) -> Vec<String> {
    let head = own.to_string();
    let mut all = vec![head.clone()];
    for line in lines {
        let Line::News(text) = line else { continue };
        let last = all.last().map_or(0, String::len);
        if last + 1 + text.len() > PAYLOAD {
            all.push(head.clone());
        }
        if let Some(last) = all.last_mut() {
            last.push('\n');
            last.push_str(text);
        }
    }
    all
}

impl Teller {
    /// One that tells in the name of this gateway; the future does it until every clone is gone.
    pub fn new(own: i64, link: Arc<Link>) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, inbox) = mpsc::channel(WAITING);
        let missed = Arc::new(AtomicBool::new(false));
        let teller = Self {
            queue,
            missed: missed.clone(),
        };
        (teller, send(own, link, inbox, missed))
    }

    /// Tells others; never waits.
    pub fn tell(&self, news: News) {
        self.put(Line::News(written(news)));
    }

    /// Tells oneself.
    pub fn probe(&self) {
        self.put(Line::Probe);
    }

    fn put(&self, line: Line) {
        if self.queue.try_send(line).is_err() {
            self.missed.store(true, Ordering::Release);
        }
    }
}

async fn send(own: i64, link: Arc<Link>, mut inbox: mpsc::Receiver<Line>, missed: Arc<AtomicBool>) {
    let mut failures = 0;
    while let Some(first) = inbox.recv().await {
        sleep(TOGETHER).await;
        let mut lines = HashSet::from([first]);
        while let Ok(next) = inbox.try_recv() {
            lines.insert(next);
        }
        if missed.swap(false, Ordering::AcqRel) {
            lines.insert(Line::News(written(News::Missed)));
        }
        let payloads = payloads(own, &lines);
        for some in payloads.chunks(PAYLOADS) {
            if notify(&link, some).await {
                failures = 0;
            } else {
                missed.store(true, Ordering::Release);
                sleep(backoff(failures)).await;
                failures += 1;
                break;
            }
        }
    }
}

async fn notify(link: &Link, payloads: &[String]) -> bool {
    let sql = "select pg_notify($1, t.payload) from unnest($2::text[]) as t (payload)";
    let Ok(session) = link.session().await else {
        return false;
    };
    let values: [super::link::Value; 2] = [(&CHANNEL, Type::TEXT), (&payloads, Type::TEXT_ARRAY)];
    session.ask(sql, &values).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard_by_others_and_known_as_ones_own() {
        let id = JobId::random();
        let all = [
            News::Due("chat".into()),
            News::Changed(id.clone()),
            News::Ended(id),
            News::Callback,
            News::Missed,
        ];
        let lines = all.iter().cloned().map(|one| Line::News(written(one)));
        let payloads = payloads(-7, &lines.collect());
        assert_eq!(payloads.len(), 1);
        assert_eq!(heard(-7, &payloads[0]), Heard::Own);
        let Heard::Others(found) = heard(7, &payloads[0]) else {
            panic!("it is not its own");
        };
        assert_eq!(found.len(), all.len());
        assert!(all.iter().all(|one| found.contains(one)));
    }

    #[test]
    fn no_payload_is_too_long_and_none_is_lost() {
        let ids: Vec<JobId> = std::iter::repeat_with(JobId::random).take(999).collect();
        let lines = ids.iter().cloned().map(News::Ended);
        let lines = lines.map(|one| Line::News(written(one))).collect();
        let payloads = payloads(1, &lines);
        assert!(payloads.iter().all(|one| one.len() < 8_000));
        let found = payloads.iter().map(|one| match heard(2, one) {
            Heard::Others(found) => found.len(),
            Heard::Own => 0,
        });
        assert_eq!(found.sum::<usize>(), 999);
    }
}
