//! What is shown, drawn. Pure: the same picture gives the same screen.
//!
//! Made for 80 columns and 24 lines; more room shows more. Whatever a colour says, a word or a mark
//! says too.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::format::{bars, rate, share, time};
use super::state::{App, Picture};
use crate::observe::live::{Health, Route, Target};

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

fn titled(title: String) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(title)
}

fn head(names: &[&'static str]) -> Row<'static> {
    Row::new(names.iter().enumerate().map(|(at, name)| {
        // Names stand left, figures right.
        let line = Line::from(*name);
        Cell::from(if at == 0 { line } else { line.right_aligned() })
    }))
    .style(BOLD)
}

fn figure(says: String, style: Style) -> Cell<'static> {
    Cell::from(Line::styled(says, style).right_aligned())
}

fn plain(says: String) -> Cell<'static> {
    figure(says, Style::new())
}

const ROUTES: [&str; 10] = [
    "ROUTE",
    "CALLS/S",
    "IN FL",
    "p50",
    "p95",
    "p99",
    "BUDGET",
    "OVER",
    "202/S",
    "LAST CALLS",
];

fn routes_table(
    frame: &mut Frame<'_>,
    area: Rect,
    app: &App,
    picture: &Picture,
    routes: &[&Route],
    look: Look,
) {
    let what = if app.first_tokens {
        "first token"
    } else {
        "whole answers"
    };
    let way = if app.reversed { ", reversed" } else { "" };
    let (window, sort) = (app.window.name(), app.sort.name());
    let title = format!("Routes: {what}, last {window}, by {sort}{way}");
    let widths = [12, 7, 5, 6, 6, 7, 6, 5, 5];
    let taken: u16 = widths.iter().sum::<u16>() + 9;
    let rest = area.width.saturating_sub(taken + 1).min(60);
    let widths = widths.into_iter().chain([rest]);
    let widths = widths.enumerate().map(|(at, width)| match at {
        0 => Constraint::Min(width),
        _ => Constraint::Length(width),
    });
    let row = |route: &&Route| route_row(app, picture, route, usize::from(rest), look);
    let table = Table::new(routes.iter().map(row), widths)
        .header(head(&ROUTES))
        .highlight_symbol(">")
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(titled(title));
    let mut state = TableState::new().with_selected(app.selected());
    frame.render_stateful_widget(table, area, &mut state);
}

fn route_row(app: &App, picture: &Picture, route: &Route, bar: usize, look: Look) -> Row<'static> {
    let (figures, budget) = app.figures(route);
    let flow = route.per_second.unwrap_or_default();
    let known = |value: f64| {
        if figures.count == 0 {
            "-".into()
        } else {
            time(value)
        }
    };
    // A mark for those who see no colour.
    let (tail, style) = if figures.p99 > budget && figures.count > 0 {
        (format!("!{}", known(figures.p99)), look.bad())
    } else {
        (known(figures.p99), Style::new())
    };
    let over = figures.over.filter(|_| figures.count > 0);
    Row::new([
        Cell::from(route.name.clone()),
        plain(rate(flow.calls)),
        plain(route.in_flight.to_string()),
        plain(known(figures.p50)),
        plain(known(figures.p95)),
        figure(tail, style),
        plain(time(budget)),
        plain(over.map_or("-".into(), share)),
        plain(rate(flow.demoted)),
        figure(bars(picture.trail(&route.name), bar), look.of(Color::Cyan)),
    ])
}

fn targets_table(frame: &mut Frame<'_>, area: Rect, route: &Route, look: Look) {
    let flow = route.per_second.unwrap_or_default();
    let (hedges, hedge) = (flow.hedges, &route.hedge);
    let delay = hedge.answer_delay.or(hedge.stream_delay).map(time);
    let delay = delay.map(|delay| format!(" ({delay})")).unwrap_or_default();
    let title = format!(
        "{}: failed {}/s, hedge {}{delay}: won {}/s lost {}/s denied {}/s",
        route.name,
        rate(flow.failed),
        hedge.after,
        rate(hedges.won),
        rate(hedges.lost),
        rate(hedges.denied)
    );
    let names = [
        "TARGET",
        "HEALTH",
        "IN FL",
        "WAIT",
        "SHARE",
        "TOKEN p50",
        "p99",
        "ALL p50",
        "p99",
    ];
    let widths = [
        Constraint::Min(12),
        Constraint::Length(13),
        Constraint::Length(8),
        Constraint::Length(4),
        Constraint::Length(5),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
    ];
    let rows = route.targets.iter().map(|target| target_row(target, look));
    let table = Table::new(rows, widths)
        .header(head(&names))
        .block(titled(title));
    frame.render_widget(table, area);
}

fn target_row(target: &Target, look: Look) -> Row<'static> {
    let rest = target.closed_for.map(time).unwrap_or_default();
    let (health, style) = match target.health {
        Health::Healthy => ("healthy".into(), look.of(Color::Green)),
        Health::HalfOpen => ("on probe".into(), look.of(Color::Yellow)),
        Health::Ejected => (format!("EJECTED {rest}"), look.bad()),
        Health::Resting => (format!("resting {rest}"), look.of(Color::Yellow)),
    };
    let known = |count: u64, value: f64| if count == 0 { "-".into() } else { time(value) };
    let (first, all) = (&target.first_token, &target.duration);
    let limit = target
        .limit
        .map(|limit| format!("/{limit}"))
        .unwrap_or_default();
    Row::new([
        Cell::from(target.name.clone()),
        figure(health, style),
        plain(format!("{}{limit}", target.in_flight)),
        plain(target.waiting.to_string()),
        plain(target.share.map_or("-".into(), share)),
        plain(known(first.count, first.p50)),
        plain(known(first.count, first.p99)),
        plain(known(all.count, all.p50)),
        plain(known(all.count, all.p99)),
    ])
}

fn jobs_table(frame: &mut Frame<'_>, area: Rect, picture: &Picture, look: Look) {
    let Some(jobs) = &picture.snapshot.jobs else {
        let says = Paragraph::new("the store does not answer").style(look.bad());
        frame.render_widget(says.block(titled("Jobs".into())), area);
        return;
    };
    let dead = match jobs.dead_callbacks {
        0 => String::new(),
        dead => format!(": {dead} dead callbacks (shunt jobs replay-callback)"),
    };
    let block = titled(format!("Jobs{dead}"));
    if jobs.routes.is_empty() {
        frame.render_widget(Paragraph::new("none").block(block), area);
        return;
    }
    let names = [
        "ROUTE",
        "QUEUED",
        "RUNNING",
        "SUCCEEDED",
        "FAILED",
        "CANCELLED",
        "EXPIRED",
        "OLDEST",
    ];
    let widths =
        std::iter::once(Constraint::Min(14)).chain([8, 8, 9, 8, 9, 8, 7].map(Constraint::Length));
    let rows = jobs.routes.iter().map(|one| {
        let bad = |count: u64| {
            figure(
                count.to_string(),
                if count > 0 { look.bad() } else { Style::new() },
            )
        };
        Row::new([
            Cell::from(one.route.clone()),
            plain(one.queued.to_string()),
            plain(one.running.to_string()),
            plain(one.succeeded.to_string()),
            bad(one.failed),
            plain(one.cancelled.to_string()),
            bad(one.expired),
            plain(one.oldest_queued.map_or("-".into(), time)),
        ])
    });
    frame.render_widget(
        Table::new(rows, widths).header(head(&names)).block(block),
        area,
    );
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
