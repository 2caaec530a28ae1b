use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::feed::Update;
use super::super::state::tests::{app, snapshot, type_in};
use super::*;

fn screen(app: &App, look: Look, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app, look)).unwrap();
    terminal
}

const PLAIN: Look = Look { colours: false };
const COLOURED: Look = Look { colours: true };

#[test]
fn all_is_seen_in_80_columns_and_24_lines() {
    insta::assert_snapshot!(screen(&app(), PLAIN, 80, 24).backend());
}

#[test]
fn the_keys_are_told_over_it() {
    let mut app = app();
    type_in(&mut app, "?");
    insta::assert_snapshot!(screen(&app, PLAIN, 80, 24).backend());
}

#[test]
fn a_gateway_that_is_away_is_told_of_before_and_after_something_was_heard() {
    let mut app = App::new("http://127.0.0.1:8081".into());
    let why = "no gateway answers at http://127.0.0.1:8081";
    app.hear(Update::Away(why.into()));
    let text = screen(&app, PLAIN, 80, 24).backend().to_string();
    assert!(
        text.contains(why) && text.contains("NO ANSWER") && text.contains("q leaves"),
        "{text}"
    );
    let mut app = super::super::state::tests::app();
    app.hear(Update::Away(why.into()));
    let text = screen(&app, PLAIN, 80, 24).backend().to_string();
    assert!(
        text.contains(why) && text.contains("What is shown is old"),
        "{text}"
    );
    app.hear(Update::Snapshot(Box::new(snapshot())));
    let text = screen(&app, PLAIN, 80, 24).backend().to_string();
    assert!(!text.contains(why), "{text}");
}

/// The text is the same; a colour only says again what a mark says.
#[test]
fn without_colour_nothing_is_lost() {
    let (plain, coloured) = (
        screen(&app(), PLAIN, 80, 24),
        screen(&app(), COLOURED, 80, 24),
    );
    assert_eq!(plain.backend().to_string(), coloured.backend().to_string());
    let colours = |terminal: &Terminal<TestBackend>| {
        let cells = terminal.backend().buffer().content().iter();
        cells
            .filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
            .count()
    };
    assert_eq!(colours(&plain), 0);
    assert!(colours(&coloured) > 50);
    assert!(plain.backend().to_string().contains("!2.50s"));
}

#[test]
fn a_store_that_was_not_asked_yet_is_not_told_to_be_silent() {
    let silent = "the store does not answer";
    for (ready, says, not) in [
        (None, "asking the store ...", silent),
        (Some(false), silent, "asking"),
        (Some(true), silent, "asking"),
    ] {
        let mut app = app();
        let mut bare = snapshot();
        (bare.gateway.store_ready, bare.jobs) = (ready, None);
        app.hear(Update::Snapshot(Box::new(bare)));
        let text = screen(&app, PLAIN, 80, 24).backend().to_string();
        assert!(text.contains(says) && !text.contains(not), "{text}");
    }
}

#[test]
fn no_size_of_a_terminal_and_no_store_away_breaks_it() {
    let mut app = app();
    let mut bare = snapshot();
    bare.jobs = None;
    bare.routes.clear();
    for step in 0..2 {
        for (width, height) in [(1, 1), (20, 5), (60, 12), (61, 13), (200, 60), (80, 12)] {
            let text = screen(&app, PLAIN, width, height).backend().to_string();
            assert!(!text.is_empty());
            let seen = text.contains("the store does not answer");
            assert_eq!(seen, step == 1 && width >= 60, "{width}x{height}:\n{text}");
        }
        app.hear(Update::Snapshot(Box::new(bare.clone())));
    }
}
