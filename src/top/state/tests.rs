use super::*;
use crate::observe::live::*;

fn route(name: &str, calls: f64, p99: f64) -> Route {
    let figures = Figures {
        count: 100,
        p50: p99 / 10.0,
        p90: p99 / 2.0,
        p95: p99 / 1.5,
        p99,
        p999: p99,
        max: p99,
        over: Some(if p99 > 2.0 { 0.031 } else { 0.0 }),
    };
    let windows = Windows {
        minute: figures,
        five_minutes: figures,
        hour: figures,
    };
    Route {
        name: name.into(),
        built_in: false,
        budget: Budget {
            first_token: 1.0,
            total: 2.0,
        },
        over_budget: OverBudget {
            action: "demote".into(),
            unasked: "fail".into(),
        },
        in_flight: 3,
        queue: 0,
        total: Flow::default(),
        per_second: Some(Flow {
            calls,
            demoted: calls / 10.0,
            ..Flow::default()
        }),
        hedge: Hedge {
            after: "p95".into(),
            max_extra: 0.05,
            stream_delay: None,
            answer_delay: Some(0.3),
        },
        first_token: windows,
        duration: windows,
        overhead: figures,
        targets: vec![target(figures)],
    }
}

fn target(figures: Figures) -> Target {
    Target {
        name: "openai".into(),
        provider: "openai".into(),
        weight: 1,
        health: Health::Ejected,
        closed_for: Some(12.0),
        ejections: 2,
        in_flight: 3,
        limit: Some(20),
        waiting: 1,
        average_first_token: None,
        share: Some(1.0),
        first_token: figures,
        duration: figures,
        quota: Vec::new(),
        held: None,
    }
}

/// A gateway with two routes and a job.
pub fn snapshot() -> Snapshot {
    Snapshot {
        at: 1_764_000_000.0,
        gateway: Gateway {
            name: "host:42".into(),
            version: "0.1.0".into(),
            started: 1_763_990_000.0,
            uptime: 10_000.0,
            draining: false,
            store_ready: Some(true),
            in_flight: 6,
            tasks: 9,
            listeners: 1,
            listeners_limit: 16,
        },
        routes: vec![route("chat", 5.0, 2.5), route("embeddings", 50.0, 0.2)],
        jobs: Some(Jobs {
            at: 1_764_000_000.0,
            routes: vec![RouteJobs {
                route: "chat".into(),
                queued: 2,
                running: 1,
                succeeded: 40,
                oldest_queued: Some(7.0),
                ..RouteJobs::default()
            }],
            dead_callbacks: 3,
        }),
    }
}

/// What is shown of such a gateway.
pub fn app() -> App {
    let mut app = App::new("http://127.0.0.1:8081".into());
    app.hear(Update::Snapshot(Box::new(snapshot())));
    app
}

/// Keys, one after the other.
pub fn type_in(app: &mut App, keys: &str) -> Then {
    let keys = keys.chars().map(|one| match one {
        '\n' => KeyCode::Enter,
        '\x1b' => KeyCode::Esc,
        one => KeyCode::Char(one),
    });
    keys.map(|key| app.press(key.into()))
        .last()
        .unwrap_or(Then::Stay)
}

fn names(app: &App) -> Vec<&str> {
    app.routes()
        .iter()
        .map(|route| route.name.as_str())
        .collect()
}

#[test]
fn routes_are_sorted_by_each_column_and_the_other_way_round() {
    let mut app = app();
    assert_eq!(names(&app), ["chat", "embeddings"]);
    type_in(&mut app, "s");
    assert_eq!(
        (app.sort, names(&app)),
        (Sort::Name, vec!["chat", "embeddings"])
    );
    type_in(&mut app, "s");
    assert_eq!(
        (app.sort, names(&app)),
        (Sort::Calls, vec!["embeddings", "chat"])
    );
    type_in(&mut app, "r");
    assert_eq!(names(&app), ["chat", "embeddings"]);
    type_in(&mut app, "rs");
    assert_eq!(
        (app.sort, names(&app)),
        (Sort::Tail, vec!["chat", "embeddings"])
    );
}

#[test]
fn a_choice_stays_with_its_route_however_it_is_sorted() {
    let mut app = app();
    type_in(&mut app, "j");
    assert_eq!(app.selected(), 1);
    type_in(&mut app, "ss");
    assert_eq!((app.selected(), names(&app)[0]), (0, "embeddings"));
    type_in(&mut app, "kkkk");
    assert_eq!(app.selected(), 0);
    type_in(&mut app, "jjjj");
    assert_eq!(app.selected(), 1);
}

#[test]
fn a_filter_is_written_kept_and_taken_off() {
    let mut app = app();
    assert_eq!(type_in(&mut app, "/EMBq"), Then::Stay);
    assert_eq!(names(&app), Vec::<&str>::new());
    app.press(KeyCode::Backspace.into());
    assert_eq!(names(&app), ["embeddings"]);
    type_in(&mut app, "\n");
    assert!(!app.filtering);
    assert_eq!(type_in(&mut app, "\x1b"), Then::Stay);
    assert_eq!(names(&app).len(), 2);
    assert_eq!(type_in(&mut app, "\x1b"), Then::Leave);
}

#[test]
fn what_is_frozen_stands_still_and_then_is_where_it_would_be() {
    let mut app = app();
    type_in(&mut app, " ");
    let mut later = snapshot();
    later.gateway.in_flight = 99;
    app.hear(Update::Snapshot(Box::new(later)));
    assert!(app.is_frozen());
    assert_eq!(app.picture().unwrap().snapshot.gateway.in_flight, 6);
    assert_eq!(app.picture().unwrap().trail("chat"), [5.0]);
    type_in(&mut app, "f");
    assert_eq!(app.picture().unwrap().snapshot.gateway.in_flight, 99);
    assert_eq!(app.picture().unwrap().trail("chat"), [5.0, 5.0]);
}

#[test]
fn trails_are_bounded_and_begin_again_with_another_process() {
    let mut app = app();
    for _ in 0..2 * REMEMBERED {
        app.hear(Update::Snapshot(Box::new(snapshot())));
    }
    assert_eq!(app.picture().unwrap().trail("chat").len(), REMEMBERED);
    app.hear(Update::Away("gone".into()));
    assert_eq!(app.away.as_deref(), Some("gone"));
    let mut other = snapshot();
    other.gateway.started += 60.0;
    app.hear(Update::Snapshot(Box::new(other)));
    assert_eq!(
        (
            app.away.as_ref(),
            app.picture().unwrap().trail("chat").len()
        ),
        (None, 1)
    );
}

#[test]
fn control_c_leaves_even_where_text_is_written() {
    let mut app = app();
    type_in(&mut app, "/");
    let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.press(key), Then::Leave);
    type_in(&mut app, "\n?");
    assert!(app.help);
    assert_eq!(type_in(&mut app, "q"), Then::Stay);
    assert_eq!(type_in(&mut app, "q"), Then::Leave);
}
