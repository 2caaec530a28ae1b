//! What is shown, drawn. Pure: the same picture gives the same screen.
//!
//! Made for 80 columns and 24 lines; more room shows more. Whatever a colour says, a word or a mark
//! says too.

mod tables;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use self::tables::{jobs_table, routes_table, targets_table};
use super::format::time;
use super::state::{App, Picture};

/// With colours, or without.
#[derive(Clone, Copy)]
pub struct Look {
    colours: bool,
}

impl Look {
    /// As the environment wants it: <https://no-color.org>.
    pub fn of_the_environment() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            colours: !set("NO_COLOR") && !dumb,
        }
    }

    fn of(self, colour: Color) -> Style {
        if self.colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    fn bad(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn faint(self) -> Style {
        self.of(Color::DarkGray)
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// The least that anything can be seen in.
const LEAST: (u16, u16) = (60, 12);

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, app: &App, look: Look) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let says = format!("shunt top needs {} columns and {} lines", LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(says).wrap(Wrap { trim: true }), area);
        return;
    }
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(heading(app, look), head);
    match app.picture() {
        Some(picture) => parts(frame, body, app, picture, look),
        None => frame.render_widget(waiting(app), body),
    }
    frame.render_widget(keys(app, look), foot);
    if let (Some(why), Some(_)) = (&app.away, app.picture()) {
        away(frame, body, why, look);
    }
    if app.help {
        help(frame, area);
    }
}

fn waiting(app: &App) -> Paragraph<'static> {
    let says = match &app.away {
        Some(why) => format!("\n{why}\n\nAsked again each second; q leaves."),
        None => format!("\nAsking {} ...", app.admin),
    };
    Paragraph::new(says).wrap(Wrap { trim: false })
}

fn heading(app: &App, look: Look) -> Line<'static> {
    let mut spans = vec![Span::styled("shunt top ", BOLD)];
    if let Some(Picture { snapshot, .. }) = app.picture() {
        let gateway = &snapshot.gateway;
        spans.push(Span::raw(format!(
            "{} {} up {} in flight {} ",
            gateway.name,
            gateway.version,
            time(gateway.uptime),
            gateway.in_flight
        )));
        if gateway.draining {
            spans.push(Span::styled("DRAINING ", look.bad()));
        }
        if gateway.store_ready == Some(false) {
            spans.push(Span::styled("STORE AWAY ", look.bad()));
        }
    }
    if app.is_frozen() {
        spans.push(Span::styled(
            "FROZEN ",
            look.of(Color::Yellow).add_modifier(Modifier::BOLD),
        ));
    }
    if app.away.is_some() {
        spans.push(Span::styled("NO ANSWER", look.bad()));
    }
    Line::from(spans)
}

fn keys(app: &App, look: Look) -> Line<'static> {
    if app.filtering {
        return Line::from(format!(
            "routes with: {}_   Enter keeps it, Esc takes it off",
            app.filter
        ));
    }
    let mut says = String::from(
        "q quit  h help  / filter  s sort  r reverse  w window  t tokens  space freeze",
    );
    if !app.filter.is_empty() {
        says = format!("only `{}` (Esc: all)  {says}", app.filter);
    }
    Line::styled(says, look.faint())
}

fn parts(frame: &mut Frame<'_>, area: Rect, app: &App, picture: &Picture, look: Look) {
    let routes = app.routes();
    let chosen = routes.get(app.selected()).copied();
    let jobs = picture.snapshot.jobs.as_ref();
    let lines = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).saturating_add(2);
    let targets = lines(chosen.map_or(1, |route| route.targets.len()))
        .saturating_add(1)
        .min(area.height / 3);
    let jobs_lines = lines(jobs.map_or(1, |jobs| jobs.routes.len().max(1)))
        .min(area.height / 4)
        .max(3);
    let [upper, middle, lower] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(targets),
        Constraint::Length(jobs_lines),
    ])
    .areas(area);
    routes_table(frame, upper, app, picture, &routes, look);
    if let Some(route) = chosen {
        targets_table(frame, middle, route, look);
    }
    jobs_table(frame, lower, picture, look);
}

/// In the middle, over what is there.
fn over(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    }
}

fn away(frame: &mut Frame<'_>, area: Rect, why: &str, look: Look) {
    let area = over(area, 70, 6);
    let block = Block::bordered()
        .title("What is shown is old")
        .border_style(look.bad());
    let says = format!("{why}\nAsked again each second.");
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(says).wrap(Wrap { trim: true }).block(block),
        area,
    );
}

const HELP: &str = "
q, Esc, Ctrl-C   leave                space, f   let time stand still
Up, Down, j, k   choose a route       /          only routes with such names
s   sort by the next column           r          the other way round
w   last minute, five, hour           t          first tokens, whole answers

p50 p95 p99   percentiles; `!`: p99 is past the budget
OVER          share of the calls past the budget
202/S         calls that became jobs, a second
LAST CALLS    calls a second, newest at the right
SHARE         of the route's attempts that went to the target
OLDEST        how long the job waits that could run for longest

Any key goes on.";

fn help(frame: &mut Frame<'_>, area: Rect) {
    let lines = u16::try_from(HELP.lines().count()).unwrap_or(u16::MAX);
    let area = over(area, 76, lines + 2);
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(HELP).block(Block::bordered().title("Keys")),
        area,
    );
}

#[cfg(test)]
mod tests;
