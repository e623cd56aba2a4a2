use std::{collections::BTreeMap, path::Path};

use crate::evidence::SourceKind;
use jiff::Timestamp;
use proptest::{prelude::*, test_runner::TestRunner};
use record::Hash;

use super::*;
use crate::read::facts::{Scope, gather};
use crate::{
    config::Config,
    own_ledger::random_ledger,
    requirements::Catalog,
    store::{
        Store,
        ledgers::{self, Ledger},
    },
};

const TYPES: [&str; 5] = ["session.opened", "session.closed", "lockdown", "app.authentication", "review.completed"];
const PEOPLE: [Option<&str>; 3] = [None, Some("frank"), Some("alice")];
const ACCOUNTS: [Option<&str>; 3] = [None, Some("ubuntu"), Some("root")];

fn open(state: &Path) -> Store {
    Store::open(&Config { state: state.to_owned(), ..Config::default() }).unwrap()
}

/// One artifact of a test: source, type, person, account, and its time in seconds.
type Plan = (usize, usize, usize, usize, i64);

/// What is stored, for a plain search.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    time: i64,
    order: usize,
    plan: Plan,
}

struct World {
    store: Store,
    chains: Vec<Ledger>,
    stored: Vec<Stored>,
}

/// Two hosts, one of them pending, one of another stack; a client; a person.
const SOURCES: [(SourceKind, &str, &str, bool); 5] = [
    (SourceKind::Host, "i-1", "web", false),
    (SourceKind::Host, "i-2", "web", true),
    (SourceKind::Host, "i-3", "db", false),
    (SourceKind::Client, "portal", "", false),
    (SourceKind::Person, "alice", "", false),
];

/// A host names another stack now and then.
fn stack_of((source, _, _, account, second): &Plan) -> &'static str {
    let own = SOURCES[*source].2;
    if !own.is_empty() && *account == 1 && second % 3 == 0 { "db" } else { own }
}

/// And its clock is off now and then.
fn is_clock_off((_, _, person, _, second): &Plan) -> bool {
    *person == 2 && second % 4 == 0
}

impl World {
    fn new(state: &Path) -> Self {
        let store = open(state);
        let chains = store
            .write_blocking(|w| {
                SOURCES
                    .iter()
                    .map(|(kind, name, _, pending)| w.begin_ledger(*kind, &random_ledger(), name, *pending))
                    .collect()
            })
            .unwrap();
        Self { store, chains, stored: Vec::new() }
    }

    fn add(&mut self, plan: &[Plan]) {
        for one in plan.iter().copied() {
            let (source, kind, person, account, second) = one;
            let chain = self.chains[source].clone();
            let bytes = format!("{{\"n\":{},\"type\":\"{}\"}}", self.stored.len(), TYPES[kind]);
            let time = Timestamp::from_second(second).unwrap();
            self.chains[source] = self
                .store
                .write_blocking(move |w| {
                    let mut chain = chain.clone();
                    let seq = chain.head_seq + 1;
                    let artifact = ledgers::Artifact {
                        seq,
                        hash: Hash::of(bytes.as_bytes()),
                        word: TYPES[kind],
                        stack: stack_of(&one),
                        time,
                        person: PEOPLE[person],
                        account: ACCOUNTS[account],
                        fingerprint: None,
                        flags: if is_clock_off(&one) { ledgers::CLOCK_OFF } else { 0 },
                        next_by: None,
                        bytes: bytes.as_bytes(),
                        kept: None,
                    };
                    ledgers::append(w, &mut chain, &[artifact])?;
                    Ok(chain)
                })
                .unwrap();
            self.stored.push(Stored { time: second, order: self.stored.len(), plan: one });
        }
    }

    fn read<T: Send + 'static>(&self, question: impl FnOnce(&mut dyn Tx) -> Result<T, Error> + Send + 'static) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.store.readers().run(question)).unwrap()
    }
}

#[derive(Debug, Clone, Default)]
struct Asking {
    person: Option<usize>,
    account: Option<usize>,
    host: Option<usize>,
    stack: Option<&'static str>,
    kind: Option<&'static str>,
    requirement: Option<&'static str>,
    window: Option<(i64, i64)>,
    pending: bool,
}

fn asking() -> impl Strategy<Value = Asking> {
    (
        proptest::option::of(1usize..3),
        proptest::option::of(1usize..3),
        proptest::option::of(0usize..3),
        proptest::option::of(prop_oneof![Just("web"), Just("db"), Just("nobody")]),
        proptest::option::of(prop_oneof![Just("session.*"), Just("lockdown"), Just("no.such")]),
        proptest::option::of(prop_oneof![Just("164.312(d)"), Just("164.308(a)(1)(ii)(D)"), Just("164.312(c)(2)")]),
        proptest::option::of((0i64..40, 1i64..40)),
        any::<bool>(),
    )
        .prop_map(|(person, account, host, stack, kind, requirement, window, pending)| Asking {
            person,
            account,
            host,
            stack,
            kind,
            requirement,
            window: window.map(|(from, length)| (from, from + length)),
            pending,
        })
}

impl Asking {
    fn wanted(&self, catalog: &Catalog, cursor: Option<Cursor>) -> Wanted {
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let evidence = self.requirement.map(|id| {
            let rows = catalog.rows_for(catalog.find(id).unwrap());
            rows.iter().flat_map(|row| row.types.clone()).collect()
        });
        Wanted {
            person: self.person.map(|p| PEOPLE[p].unwrap().parse().unwrap()),
            account: self.account.map(|a| ACCOUNTS[a].unwrap().parse().unwrap()),
            host: self.host.map(|h| SOURCES[h].1.parse().unwrap()),
            client: None,
            stack: self.stack.map(|s| s.parse().unwrap()),
            kind: self.kind.map(|k| TypePattern::parse(k).unwrap()),
            evidence,
            ledger: None,
            window: Window { from: self.window.map(|w| at(w.0)), to: self.window.map(|w| at(w.1)) },
            pending: self.pending,
            cursor,
        }
    }

    /// The same question, answered by looking at everything.
    fn plainly(&self, catalog: &Catalog, stored: &[Stored]) -> Vec<usize> {
        let mut all: Vec<&Stored> = stored
            .iter()
            .filter(|s| {
                let (source, kind, person, account, second) = s.plan;
                let (of, name, _, pending) = SOURCES[source];
                let stack = stack_of(&s.plan);
                let word = TYPES[kind];
                let bears = |id| catalog.bears_on(catalog.find(id).unwrap(), word) && crate::evidence::counts(word, of);
                self.person.is_none_or(|p| p == person)
                    && self.account.is_none_or(|a| a == account)
                    && self.host.is_none_or(|h| SOURCES[h].1 == name)
                    && self.stack.is_none_or(|wanted| wanted == stack)
                    && self.kind.is_none_or(|k| TypePattern::parse(k).unwrap().matches(word))
                    && self.requirement.is_none_or(bears)
                    && self.window.is_none_or(|(from, to)| from <= second && second < to)
                    && (self.pending || !pending)
            })
            .collect();
        all.sort_by_key(|s| (s.time, s.order));
        all.into_iter().map(|s| s.order).collect()
    }
}

fn number(raw: &RawValue) -> usize {
    let value: serde_json::Value = serde_json::from_str(raw.get()).unwrap();
    usize::try_from(value["data"]["n"].as_u64().unwrap()).unwrap()
}

/// Reads page after page, while more comes in between.
fn pages(world: &mut World, asked: &Asking, limit: usize, late: &[Plan]) -> Vec<usize> {
    let catalog = Catalog::load(None).unwrap();
    let (mut all, mut cursor) = (Vec::new(), None);
    for round in 0..1000 {
        let wanted = asked.wanted(&catalog, cursor);
        let page = world.read(move |c| {
            let walk = wanted.walk(c, limit + 1)?.unwrap();
            page(c, walk, limit)
        });
        all.extend(page.artifacts.iter().map(|raw| number(raw)));
        assert!(page.artifacts.len() <= limit);
        let Some(next) = page.next else { return all };
        cursor = Some(next.parse().unwrap());
        if round == 0 {
            world.add(late);
        }
    }
    panic!("the pages do not end");
}

#[test]
fn pages_of_any_size_hold_exactly_what_a_plain_search_finds_whatever_comes_in_meanwhile() {
    let plan = (0usize..5, 0usize..5, 0usize..3, 0usize..3, 0i64..40);
    let case = (
        proptest::collection::vec(plan.clone(), 0..60),
        proptest::collection::vec(plan, 0..8),
        proptest::collection::vec(asking(), 1..8),
        1usize..30,
    );
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&case, |(before, late, questions, limit)| {
            let dir = tempfile::tempdir().unwrap();
            let mut world = World::new(dir.path());
            world.add(&before);
            let catalog = Catalog::load(None).unwrap();
            for asked in &questions {
                let expected = asked.plainly(&catalog, &world.stored);
                prop_assert_eq!(pages(&mut world, asked, limit, &late), expected, "{:?}", asked);
            }
            Ok(())
        })
        .unwrap();
}

/// What a summary says of one source's artifacts of a type whose clock was right, or was off.
type Summed = BTreeMap<(String, String, bool), (u64, i64, i64)>;

/// The same by looking at every record.
fn summed_plainly(stored: &[Stored], stack: Option<&str>, window: Option<(i64, i64)>, pending: bool) -> Summed {
    let mut all = Summed::new();
    for one in stored {
        let (kind, name, _, is_pending) = SOURCES[one.plan.0];
        let of_stack = match (stack, kind) {
            (None, _) => true,
            (Some(_), SourceKind::Client) => false,
            (Some(wanted), SourceKind::Person) => ["", wanted].contains(&stack_of(&one.plan)),
            (Some(wanted), _) => stack_of(&one.plan) == wanted,
        };
        let inside = window.is_none_or(|(from, to)| from <= one.time && one.time < to);
        if of_stack && inside && (pending || !is_pending) {
            let key = (TYPES[one.plan.1].to_owned(), name.to_owned(), is_clock_off(&one.plan));
            let sum = all.entry(key).or_insert((0, one.time, one.time));
            *sum = (sum.0 + 1, sum.1.min(one.time), sum.2.max(one.time));
        }
    }
    all
}

#[test]
fn a_summary_says_what_the_records_say_whatever_stacks_they_name_and_whatever_their_clocks_said() {
    let plan = (0usize..5, 0usize..5, 0usize..3, 0usize..3, 0i64..40);
    let window = proptest::option::of((0i64..40, 1i64..40));
    let stack = proptest::option::of(prop_oneof![Just("web"), Just("db"), Just("nobody")]);
    let questions = proptest::collection::vec((stack, window, any::<bool>()), 1..6);
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&(proptest::collection::vec(plan, 0..60), questions), |(plans, questions)| {
            let dir = tempfile::tempdir().unwrap();
            let mut world = World::new(dir.path());
            world.add(&plans);
            for (stack, window, pending) in questions {
                let window = window.map(|(from, length)| (from, from + length));
                let at = |s: i64| Timestamp::from_second(s).unwrap();
                let scope = Scope {
                    stack: stack.map(str::to_owned),
                    window: Window { from: window.map(|w| at(w.0)), to: window.map(|w| at(w.1)) },
                    pending,
                    ..Scope::default()
                };
                let gathered = world.read(move |c| gather(c, &scope));
                let says = |t: &crate::evidence::Tally| {
                    let key = (t.kind.clone(), gathered.sources[t.source].name.clone(), t.clock_off);
                    (key, (t.count, t.first.as_second(), t.last.as_second()))
                };
                let said: Summed = gathered.tallies.iter().map(says).collect();
                prop_assert_eq!(said, summed_plainly(&world.stored, stack, window, pending));
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_ledger_comes_back_in_its_own_order_and_with_its_exact_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path());
    // The clock was set back in between.
    world.add(&[(0, 0, 0, 0, 30), (2, 0, 0, 0, 1), (0, 1, 0, 0, 10), (0, 2, 0, 0, 20)]);
    let wanted =
        Wanted { ledger: Some(world.chains[0].id.clone()), ..Asking::default().wanted(&Catalog::default(), None) };
    let lines = world.read(move |c| {
        let mut liner = Liner { walk: wanted.walk(c, 64)?.unwrap(), form: Form::Record, left: usize::MAX };
        liner.chunk(c)
    });
    let wanted = "{\"n\":0,\"type\":\"session.opened\"}\n{\"n\":2,\"type\":\"session.closed\"}\n{\"n\":3,\"type\":\"lockdown\"}\n";
    assert_eq!((String::from_utf8(lines.lines).unwrap().as_str(), lines.end), (wanted, true));
}

#[test]
fn a_host_that_nobody_knows_is_said_to_be_unknown_and_not_to_have_no_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path());
    let wanted = Wanted { host: Some("i-9".parse().unwrap()), ..Asking::default().wanted(&Catalog::default(), None) };
    assert!(world.read(move |c| wanted.walk(c, 1)).unwrap_err().contains("no host of this name"));
}

#[test]
fn json_lines_are_asked_for_by_their_media_type() {
    for (accept, lines) in [
        ("application/x-ndjson", true),
        ("text/html, Application/X-NDJSON;q=0.5", true),
        ("application/json", false),
        ("*/*", false),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        assert_eq!(wants_lines(&headers), lines, "{accept}");
    }
    assert!(!wants_lines(&HeaderMap::new()));
}
