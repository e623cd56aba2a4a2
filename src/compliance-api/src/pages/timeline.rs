//! A story as a picture: a lane for each host or person, and in it what was granted, used, cut off and refused. Pure.
//!
//! Each kind has a shape of its own, so that nobody needs colours. What is too close together to be told apart is one mark
//! with a number, which leads to the same picture of that time alone: so a year stays readable, and small.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::Offset};
use maud::{Markup, html};

use super::{
    story::{Grant, Session, Story, What},
    words::{day, grant_path, path_of},
};

/// Units across the lanes.
const WIDTH: f64 = 760.0;
/// Units for the lanes' names.
const NAMES: f64 = 190.0;
/// Units of a lane.
const LANE: f64 = 34.0;
/// Units above the lanes, for the moments.
const TOP: f64 = 26.0;
/// Marks of a lane that are closer than this are one.
const CLOSE: f64 = 3.0;
/// Lanes that are drawn; more are counted.
const MOST_LANES: usize = 60;
/// Lines for moments, at most.
const TICKS: i64 = 9;
/// Grants up to which each says why it was given; of more, their own pages do.
const MOST_SAID: usize = 200;
/// Characters of a lane's name that are drawn; the rest stands in its title.
const NAME_CHARS: usize = 26;

/// What a lane is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lanes {
    /// One person across hosts.
    Hosts,
    /// One host across people.
    People,
}

/// The picture's window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) now: Timestamp,
}

impl Frame {
    pub(super) fn seconds(&self) -> i64 {
        (self.to.as_second() - self.from.as_second()).max(1)
    }

    #[allow(clippy::cast_precision_loss, reason = "seconds of a window, for a picture")]
    fn x(&self, at: Timestamp) -> f64 {
        let part = (at.as_second() - self.from.as_second()) as f64 / self.seconds() as f64;
        NAMES + part.clamp(0.0, 1.0) * WIDTH
    }

    /// A link to the picture of this time alone.
    fn zoom(from: Timestamp, to: Timestamp) -> String {
        format!(
            "?from={from:.0}&to={:.0}",
            Timestamp::from_second(to.as_second().max(from.as_second() + 60)).unwrap_or(to)
        )
    }
}

/// One mark, or several that are too close to be told apart.
#[derive(Debug, Clone)]
struct Drawn {
    shape: Shape,
    from: f64,
    to: f64,
    begins: Timestamp,
    ends: Timestamp,
    count: u64,
    /// How many of them were cut off.
    cut: u64,
    href: String,
    says: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Granted,
    Used,
    At(What),
}

#[derive(Debug, Default)]
struct Lane {
    href: String,
    marks: Vec<Drawn>,
}

/// The picture, and how to read it.
pub(super) fn timeline(story: &Story, lanes: Lanes, frame: Frame, title: &str) -> Markup {
    let mut all: BTreeMap<String, Lane> = BTreeMap::new();
    let says_why = story.grants.len() <= MOST_SAID;
    for grant in &story.grants {
        let lane = lane_of(&mut all, lanes, &grant.host, grant.person.as_deref(), grant.account.as_deref());
        add_grant(lane, grant, frame, says_why);
    }
    for session in &story.sessions {
        let lane = lane_of(&mut all, lanes, &session.host, session.person.as_deref(), session.account.as_deref());
        add_session(lane, session, frame);
    }
    for event in &story.events {
        let lane = lane_of(&mut all, lanes, &event.host, event.person.as_deref(), event.account.as_deref());
        let x = frame.x(event.at);
        let href = format!("/records/{}/{}", path_of(&event.by.ledger), event.by.seq);
        lane.marks.push(Drawn {
            shape: Shape::At(event.what),
            from: x,
            to: x,
            begins: event.at,
            ends: event.at,
            count: event.count,
            cut: 0,
            href,
            says: format!("{}: {}", moment(event.at), event.says),
        });
    }
    let more = all.len().saturating_sub(MOST_LANES);
    let lanes: Vec<(String, Lane)> = all.into_iter().take(MOST_LANES).collect();
    html! {
        figure.timeline {
            div.scroll tabindex="0" role="region" aria-label=(title) { (picture(&lanes, frame, title)) }
            @if more > 0 { p.hint { (more) " more lanes are not drawn; choose a shorter time." } }
            figcaption { (legend()) }
        }
    }
}

fn lane_of<'a>(
    all: &'a mut BTreeMap<String, Lane>,
    lanes: Lanes,
    host: &str,
    person: Option<&str>,
    account: Option<&str>,
) -> &'a mut Lane {
    let (name, place) = match lanes {
        Lanes::Hosts => (Some(host), "hosts"),
        Lanes::People => (person, "people"),
    };
    let label = match (name, account) {
        (Some(name), Some(account)) if account != name => format!("{name} · {account}"),
        (Some(name), _) => name.to_owned(),
        (None, Some(account)) => format!("nobody known · {account}"),
        (None, None) => "nobody known".to_owned(),
    };
    let lane = all.entry(label).or_default();
    if let Some(name) = name {
        lane.href = format!("/{place}/{}", path_of(name));
    }
    lane
}

fn add_grant(lane: &mut Lane, grant: &Grant, frame: Frame, says_why: bool) {
    let from = grant.starts.unwrap_or(frame.from);
    let to = grant.until().unwrap_or(frame.to.min(frame.now)).max(from);
    let how = grant.ended.as_ref().map_or("in force", |(_, how)| how.as_str());
    let why = grant.why.as_deref().filter(|_| says_why).map(|why| format!(": {why}")).unwrap_or_default();
    let says = format!("granted {} to {} ({how}){why}", moment(from), moment(to));
    lane.add(Shape::Granted, (from, to), grant.is_cut(), frame, (grant_path(&grant.host, &grant.id), says));
}

fn add_session(lane: &mut Lane, session: &Session, frame: Frame) {
    let from = session.opened.unwrap_or(frame.from);
    let to = session.ended.map_or(frame.to.min(frame.now), |(at, _)| at).max(from);
    let href = match (&session.grant, &session.record) {
        (Some(grant), _) => grant_path(&session.host, grant),
        (None, Some(by)) => format!("/records/{}/{}", path_of(&by.ledger), by.seq),
        (None, None) => return,
    };
    let cut = session.ended.is_some_and(|(_, cut)| cut);
    let how = if cut { ", cut off" } else { "" };
    let source = session.address.as_deref().map(|address| format!(" from {address}")).unwrap_or_default();
    let says = format!("logged in{source} {} to {}{how}", moment(from), moment(to));
    lane.add(Shape::Used, (from, to), cut, frame, (href, says));
}

impl Lane {
    fn add(
        &mut self,
        shape: Shape,
        (begins, ends): (Timestamp, Timestamp),
        cut: bool,
        frame: Frame,
        link: (String, String),
    ) {
        let (from, to) = (frame.x(begins), frame.x(ends));
        let (href, says) = link;
        self.marks.push(Drawn { shape, from, to, begins, ends, count: 1, cut: u64::from(cut), href, says });
    }
}

/// Makes one of those that are too close to be told apart.
fn merged(mut marks: Vec<Drawn>) -> Vec<Drawn> {
    marks.sort_by_key(|mark| (mark.shape, mark.begins, mark.ends));
    let mut all: Vec<Drawn> = Vec::new();
    for mark in marks {
        let room = if matches!(mark.shape, Shape::Granted | Shape::Used) { CLOSE } else { 3.0 * CLOSE };
        match all.last_mut() {
            Some(last)
                if last.shape == mark.shape && mark.from - last.to < room && mark.to - last.from < 4.0 * room =>
            {
                last.count += mark.count;
                last.cut += mark.cut;
                (last.to, last.ends) = (last.to.max(mark.to), last.ends.max(mark.ends));
                last.href = Frame::zoom(last.begins, last.ends);
                let word = match mark.shape {
                    Shape::Granted => "grants",
                    Shape::Used => "sessions",
                    Shape::At(what) => word(what),
                };
                let cut = if last.cut > 0 { format!(" ({} cut off)", last.cut) } else { String::new() };
                let (from, to) = (moment(last.begins), moment(last.ends));
                last.says = format!("{} {word}{cut}, {from} to {to}: look closer", last.count);
            }
            _ => all.push(mark),
        }
    }
    all
}

fn word(what: What) -> &'static str {
    match what {
        What::Refused => "refused",
        What::Emergency => "emergency logins",
        What::KeyRemoved => "keys removed",
        What::Lockdown => "lockdowns",
    }
}

fn picture(lanes: &[(String, Lane)], frame: Frame, title: &str) -> Markup {
    #[allow(clippy::cast_precision_loss, reason = "at most 60 lanes")]
    let height = TOP + LANE * lanes.len().max(1) as f64 + 6.0;
    let (width, bottom) = (NAMES + WIDTH + 10.0, height - 6.0);
    html! {
        svg viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) role="group" aria-label=(title) {
            @for (from, to, label) in ticks(frame) {
                @let x = n(frame.x(from));
                line.tick x1=(x) x2=(x) y1=(TOP - 6.0) y2=(bottom) {}
                a href=(Frame::zoom(from, to)) aria-label=(format!("look closer at {label}")) { text.moment x=(x) y="14" { (label) } }
            }
            @if frame.from < frame.now && frame.now < frame.to {
                @let x = n(frame.x(frame.now));
                line.now x1=(x) x2=(x) y1=(TOP - 6.0) y2=(bottom) { title { "now" } }
            }
            @for (at, (name, lane)) in lanes.iter().enumerate() {
                @let y = top_of(at);
                line.lane x1="0" x2=(width) y1=(n(y + LANE)) y2=(n(y + LANE)) {}
                (label(name, &lane.href, y))
                @for mark in merged(lane.marks.clone()) { (drawn(&mark, y)) }
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "at most 60 lanes")]
fn top_of(lane: usize) -> f64 {
    TOP + LANE * lane as f64
}

fn label(name: &str, href: &str, y: f64) -> Markup {
    let short: String = name.chars().take(NAME_CHARS).collect();
    let short = if short.len() < name.len() { format!("{short}…") } else { short };
    let text = html! { text.name x="4" y=(n(y + 21.0)) { (short) } title { (name) } };
    html! { @if href.is_empty() { g { (text) } } @else { a href=(href) { (text) } } }
}

fn drawn(mark: &Drawn, y: f64) -> Markup {
    let (x, width) = (n(mark.from), n((mark.to - mark.from).max(2.0)));
    let shape = match mark.shape {
        Shape::Granted => html! { rect.granted x=(x) y=(n(y + 8.0)) width=(width) height="18" rx="2" {} },
        Shape::Used => html! { rect.used x=(x) y=(n(y + 13.0)) width=(width) height="8" {} },
        Shape::At(what) => event(what, mark.from, y + 17.0),
    };
    let cut = html! { path.cut d=(format!("M{} {}v26m0 -22h-5m5 18h-5", n(mark.to), n(y + 4.0))) {} };
    html! { a href=(mark.href) { (shape) @if mark.cut > 0 { (cut) } title { (mark.says) } } }
}

fn event(what: What, x: f64, y: f64) -> Markup {
    let at = format!("M{} {}", n(x), n(y));
    match what {
        What::Refused => html! { path.refused d=(format!("{at}m-5 -5l10 10m0 -10l-10 10")) {} },
        What::Emergency => html! { path.emergency d=(format!("{at}m0 -7l7 13h-14z")) {} },
        What::KeyRemoved => html! { path.removed d=(format!("{at}m0 -7l7 7l-7 7l-7 -7z")) {} },
        What::Lockdown => html! { path.lockdown d=(format!("{at}m-6 -6h12v12h-12z")) {} },
    }
}

/// Every shape with its words.
fn legend() -> Markup {
    let one = |shape: Markup, says: &str| {
        html! { li { svg viewBox="0 0 28 34" width="28" height="34" aria-hidden="true" { (shape) } " " (says) } }
    };
    html! {
        ul.legend {
            (one(html! { rect.granted x="2" y="8" width="24" height="18" rx="2" {} }, "granted"))
            (one(html! { rect.used x="2" y="13" width="24" height="8" {} }, "used: logged in"))
            (one(html! { path.cut d="M18 4v26M18 8h-5M18 26h-5" {} }, "cut off: ended early, by somebody"))
            (one(event(What::Refused, 14.0, 17.0), "refused"))
            (one(event(What::Emergency, 14.0, 17.0), "emergency login"))
            (one(event(What::KeyRemoved, 14.0, 17.0), "key removed"))
            (one(event(What::Lockdown, 14.0, 17.0), "lockdown"))
        }
    }
}

/// Moments that are written above, each with the next one.
fn ticks(frame: Frame) -> Vec<(Timestamp, Timestamp, String)> {
    const STEPS: &[i64] = &[60, 300, 900, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000];
    let step = STEPS.iter().copied().find(|step| frame.seconds() / step <= TICKS).unwrap_or(frame.seconds() / TICKS);
    let first = frame.from.as_second().div_euclid(step) * step;
    let all = (0..=TICKS + 1)
        .map(|n| first + n * step)
        .filter(|at| (frame.from.as_second()..frame.to.as_second()).contains(at));
    let label = |at: Timestamp| {
        let at = Offset::UTC.to_datetime(at);
        at.strftime(if step < 86_400 { "%d %b %H:%M" } else { "%d %b" }).to_string()
    };
    all.filter_map(|at| {
        let (from, to) = (Timestamp::from_second(at).ok()?, Timestamp::from_second(at + step).ok()?);
        Some((from, to, label(from)))
    })
    .collect()
}

/// The links by which one goes back and forth, and out.
pub(super) fn windows(frame: Frame) -> Markup {
    let by = |seconds: i64, at: Timestamp| Timestamp::from_second(at.as_second() + seconds).unwrap_or(at);
    let (width, now) = (frame.seconds(), frame.now);
    let last = |days: i64| Frame::zoom(by(-days * 86_400, now), now);
    html! {
        nav.windows aria-label="Time shown" {
            span { (day(frame.from)) " to " (day(frame.to)) ", UTC:" }
            a href=(Frame::zoom(by(-width, frame.from), frame.from)) { "← earlier" }
            a href=(Frame::zoom(frame.to, by(width, frame.to))) { "later →" }
            a href=(Frame::zoom(by(-width / 2, frame.from), by(width / 2, frame.to))) { "wider" }
            @for (days, name) in [(1, "day"), (7, "week"), (30, "month"), (365, "year")] { a href=(last(days)) { "last " (name) } }
        }
    }
}

fn moment(at: Timestamp) -> String {
    Offset::UTC.to_datetime(at).strftime("%Y-%m-%d %H:%M").to_string()
}

/// A number as a picture needs it.
fn n(number: f64) -> String {
    format!("{number:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::story::{By, Event};

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_764_547_200 + hours * 3600).unwrap()
    }

    fn year() -> Frame {
        Frame { from: at(-365 * 24), to: at(0), now: at(0) }
    }

    fn grants(count: i64, host: impl Fn(i64) -> String) -> Story {
        let grant = |n: i64| Grant {
            id: format!("g-{n:016x}"),
            host: host(n),
            person: Some("frank".to_owned()),
            account: Some("ubuntu".to_owned()),
            starts: Some(at(-365 * 24 + n * 17)),
            expires: Some(at(-365 * 24 + n * 17 + 4)),
            ended: Some((at(-365 * 24 + n * 17 + 2), "revoked".to_owned())),
            why: Some("INC-42, to see why the nightly job stood still".to_owned()),
            ..Grant::default()
        };
        let session = |n: i64| Session {
            id: format!("s-{n}"),
            host: host(n),
            grant: Some(format!("g-{n:016x}")),
            person: Some("frank".to_owned()),
            account: Some("ubuntu".to_owned()),
            opened: Some(at(-365 * 24 + n * 17 + 1)),
            ended: Some((at(-365 * 24 + n * 17 + 2), true)),
            ..Session::default()
        };
        Story {
            grants: (0..count).map(grant).collect(),
            sessions: (0..count).map(session).collect(),
            ..Story::default()
        }
    }

    #[test]
    fn a_year_of_500_grants_is_smaller_than_300_kib_on_one_host_and_on_50() {
        for hosts in [1, 8, 50] {
            let story = grants(500, |n| format!("i-{:017x}", n % hosts));
            let size = timeline(&story, Lanes::Hosts, year(), "frank").into_string().len();
            assert!(size < 300 * 1024, "{hosts} hosts: {size} bytes");
        }
    }

    #[test]
    fn what_is_too_close_is_one_mark_that_leads_closer() {
        let picture = timeline(&grants(500, |_| "web-1".to_owned()), Lanes::Hosts, year(), "frank").into_string();
        assert!(picture.contains(" grants (") && picture.contains("href=\"?from="), "{}", &picture[..2000]);
        let few =
            timeline(&grants(3, |_| "web-1".to_owned()), Lanes::Hosts, Frame { to: at(-363 * 24), ..year() }, "frank");
        assert_eq!(few.into_string().matches("class=\"granted\"").count(), 3 + 1, "and one in the legend");
    }

    #[test]
    fn names_and_reasons_stand_in_the_picture_as_text() {
        let mut story = grants(1, |_| "</svg><script>alert(1)</script>".to_owned());
        story.grants[0].why = Some("\"><img src=x onerror=alert(1)>\u{202e}".to_owned());
        story.events.push(Event {
            what: What::Refused,
            at: at(-5000),
            host: "h".to_owned(),
            person: Some("'\"><script>".to_owned()),
            account: None,
            says: "<script>".to_owned(),
            count: 1,
            by: By { ledger: "\"<".to_owned(), seq: 1 },
        });
        for lanes in [Lanes::Hosts, Lanes::People] {
            let picture = timeline(&story, lanes, year(), "\"<script>").into_string();
            assert!(!picture.contains("<script") && !picture.contains("<img"), "{picture}");
        }
    }
}
