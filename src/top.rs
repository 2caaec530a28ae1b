//! `shunt top`: routes, targets and jobs of a gateway in a terminal, as `GET /api/live` tells them.
//!
//! Promises: the terminal is as it was when this ends, whether by a key, by a signal or by a fault; a
//! gateway that is away is told of and asked again. `state` and `view` are pure. Changes nothing at
//! the gateway.

mod feed;
mod format;
mod state;
mod view;

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::state::{App, Then};
use self::view::Look;
use crate::jobs::reach::Reach;
use crate::tasks::Tasks;

/// How the gateway is reached.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    reach: Reach,
}

/// Updates and keys that may wait.
const WAITING: usize = 64;

/// Shows the gateway until the reader leaves.
///
/// # Errors
/// A sentence: this is no terminal, or the token's variable is not set.
pub fn run(arguments: Arguments) -> Result<()> {
    let admin = arguments.reach.admin.clone();
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("shunt top needs a terminal; for a program there is {admin}/api/live?once=true");
    }
    // Before the screen is taken: it is no fault of the gateway.
    arguments.reach.token()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // The hook of a panic restores the terminal, too.
    let mut terminal = ratatui::try_init().context("the terminal cannot be set up")?;
    let ended = runtime.block_on(show(&mut terminal, arguments.reach, App::new(admin)));
    ratatui::restore();
    ended
}

async fn show(terminal: &mut DefaultTerminal, reach: Reach, mut app: App) -> Result<()> {
    let look = Look::of_the_environment();
    let (tasks, (updates, mut told)) = (Tasks::new(), mpsc::channel(WAITING));
    tasks.spawn(feed::follow(reach, updates, tasks.clone()));
    let mut keys = keys();
    let mut ends = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    ];
    let [terminate, interrupt, hangup] = &mut ends;
    loop {
        terminal.draw(|frame| view::draw(frame, &app, look))?;
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => break,
            Some(update) = told.recv() => app.hear(update),
            key = keys.recv() => match key {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if app.press(key) == Then::Leave {
                        break;
                    }
                }
                // Its size changed: it is drawn again.
                Some(_) => {}
                None => break,
            },
        }
    }
    Ok(())
}

/// What the reader does. The thread ends with the process: a terminal cannot be asked to give up a read.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, keys) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    keys
}
