//! The three tables: routes, the chosen route's targets, jobs.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState};

use super::{BOLD, Look};
use crate::observe::live::{Health, Route, Target};
use crate::top::format::{bars, rate, share, time};
use crate::top::state::{App, Picture};

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

/// Routes, the chosen one marked.
pub fn routes_table(
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
    let (window, sort) = (app.window.as_str(), app.sort.name());
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
    let over = figures.over.filter(|_| figures.count > 0);
    // Not by its value: totals of streams stand in it too, which no budget may hold. A mark for those who see
    // no colour.
    let (tail, style) = if over.is_some_and(|over| over > 0.01) {
        (format!("!{}", known(figures.p99)), look.bad())
    } else {
        (known(figures.p99), Style::new())
    };
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

/// The targets of a route, and what its hedges did.
pub fn targets_table(frame: &mut Frame<'_>, area: Rect, route: &Route, look: Look) {
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

/// Jobs in the store.
pub fn jobs_table(frame: &mut Frame<'_>, area: Rect, picture: &Picture, look: Look) {
    let Some(jobs) = &picture.snapshot.jobs else {
        // The first snapshot comes before the store was heard.
        let says = match picture.snapshot.gateway.store_ready {
            None => Paragraph::new("asking the store ...").style(look.faint()),
            Some(_) => Paragraph::new("the store does not answer").style(look.bad()),
        };
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
