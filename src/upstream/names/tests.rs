use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What a name server does.
#[derive(Clone)]
struct Server {
    /// How long it takes, and what it says then.
    does: Arc<Mutex<(Duration, Answer)>>,
    asked: Arc<AtomicUsize>,
}

fn address() -> Arc<[IpAddr]> {
    Arc::new([IpAddr::from([10, 0, 0, 1])])
}

impl Server {
    fn well() -> Self {
        Self {
            does: Arc::new(Mutex::new((SECOND / 50, Answer::Found(address())))),
            asked: Arc::default(),
        }
    }

    fn does(&self, takes: Duration, says: Answer) {
        *self.does.lock().unwrap() = (takes, says);
    }

    fn name(&self) -> Arc<Name> {
        let ours = self.clone();
        let source: Source = Arc::new(move |_| {
            ours.asked.fetch_add(1, Ordering::Relaxed);
            let (takes, says) = ours.does.lock().unwrap().clone();
            Box::pin(async move {
                sleep(takes).await;
                says
            })
        });
        Names::new(&config::Names::default(), source, Tasks::new()).of("a.test")
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn timed(name: &Arc<Name>) -> (Option<Arc<[IpAddr]>>, Duration) {
    let began = Instant::now();
    (name.addresses().await, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_share_one_look_up() {
    let server = Server::well();
    let name = server.name();
    let found = join_all((0..100).map(|_| name.addresses())).await;
    assert!(found.iter().all(|one| *one == Some(address())));
    assert_eq!(server.asked(), 1);
    name.addresses().await;
    assert_eq!(server.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_waited_for_a_bounded_time_and_asked_once_in_it() {
    let server = Server::well();
    server.does(SECOND * 60, Answer::Failed);
    let name = server.name();
    let all = join_all((0..100).map(|_| timed(&name))).await;
    assert!(all.iter().all(|one| *one == (None, SECOND * 5)), "{all:?}");
    assert_eq!(server.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_found_last_is_used_while_the_server_is_silent_or_fails_and_not_for_ever() {
    let server = Server::well();
    let name = server.name();
    name.addresses().await;
    server.does(SECOND * 60, Answer::Failed);
    assert_eq!(timed(&name).await, (Some(address()), SECOND / 4));
    // The look-up is silent for so long already: nobody waits again.
    assert_eq!(timed(&name).await, (Some(address()), Duration::ZERO));
    sleep(SECOND * 10).await;
    server.does(Duration::ZERO, Answer::Failed);
    assert_eq!(timed(&name).await.0, Some(address()));
    sleep(SECOND * 3_600).await;
    assert_eq!(timed(&name).await.0, None);
    server.does(Duration::ZERO, Answer::Found(address()));
    assert_eq!(timed(&name).await.0, Some(address()));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_said_not_to_exist_is_forgotten() {
    let server = Server::well();
    let name = server.name();
    name.addresses().await;
    server.does(Duration::ZERO, Answer::Denied);
    assert_eq!(name.addresses().await, None);
    server.does(SECOND * 60, Answer::Failed);
    assert_eq!(timed(&name).await, (None, SECOND * 5));
}

#[tokio::test(start_paused = true)]
async fn names_that_nobody_holds_are_forgotten() {
    let names = Names::new(
        &config::Names::default(),
        Arc::new(|_| Box::pin(async { Answer::Failed })),
        Tasks::new(),
    );
    let held = names.of("held.test");
    for number in 0..10_000 {
        names.of(&format!("{number}.test"));
    }
    assert!(names.0.known.lock().unwrap().len() < 1_000);
    assert!(Arc::ptr_eq(&held, &names.of("held.test")));
}

#[tokio::test]
async fn the_system_s_resolver_knows_this_machine() {
    let settings = config::Names::default();
    let names = Names::of_the_system(&settings, Tasks::new());
    let found = names.of("localhost").addresses().await.unwrap();
    assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
}
