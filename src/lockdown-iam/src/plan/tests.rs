//! What IAM may say, and what may follow from it.

use document::{
    Approver, Body, Document, Envelope, Feeder, IamUser, IsRoster, Judge, Key, Place, Settings, V1, Verdict,
};
use proptest::prelude::*;
use ssh_key::{private::Ed25519Keypair, public::KeyData};

use super::*;
use crate::memory::{Held, User};

const NOW: &str = "2026-11-30T12:00:00Z";

fn pair(seed: u8) -> Ed25519Keypair {
    Ed25519Keypair::from_seed(&[seed; 32])
}

fn key(seed: u8) -> Key {
    Key::from_data(&KeyData::Ed25519(pair(seed).public)).unwrap()
}

fn now() -> Moment {
    NOW.parse().unwrap()
}

const CEO: u8 = 200;
const FEEDER: u8 = 201;
const ANA: u8 = 202;

fn trust() -> Checked {
    let text = format!(
        "organization = \"acme\"\n[roster]\nautomatic = [\"{}\"]\n[[roster.key]]\nperson = \"ceo\"\nkey = \"{}\"\n",
        key(FEEDER),
        key(CEO)
    );
    toml::from_str::<Settings>(&text).unwrap().check().unwrap()
}

fn id(number: u8) -> String {
    format!("AIDA{number:03}")
}

fn arn(name: &str) -> String {
    format!("arn:aws:iam::111122223333:user/{name}")
}

/// Somebody of the source `iam`.
fn member(name: &str, number: u8, keys: &[u8]) -> Member {
    Member {
        accounts: [("web".parse().unwrap(), ["ubuntu".parse().unwrap()].into())].into(),
        iam: Some(IamUser {
            arn: Some(arn(name).parse().unwrap()),
            id: id(number).parse().unwrap(),
            name: name.parse().unwrap(),
        }),
        keys: keys.iter().map(|seed| key(*seed)).collect(),
        name: name.parse().unwrap(),
        source: "iam".parse().unwrap(),
    }
}

fn by_hand(name: &str, keys: &[u8]) -> Member {
    Member { iam: None, source: "hand".parse().unwrap(), ..member(name, 0, keys) }
}

fn roster(mut people: Vec<Member>) -> Roster {
    people.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
    Roster {
        approvers: vec![Approver {
            accounts: ["*".parse().unwrap()].into(),
            keys: [key(ANA)].into(),
            person: "ana".parse().unwrap(),
            stacks: ["*".parse().unwrap()].into(),
        }],
        expires_at: "2027-11-30T12:00:00Z".parse().unwrap(),
        feeders: vec![Feeder { key: key(FEEDER), source: "iam".parse().unwrap() }],
        holds: BTreeSet::new(),
        issued_at: now(),
        organization: "acme".parse().unwrap(),
        people,
        rules: Vec::new(),
        kind: IsRoster,
        v: V1,
        version: 1.try_into().unwrap(),
    }
}

fn candidate(name: &str, number: u8, keys: &[u8]) -> Candidate {
    let Member { accounts, keys, .. } = member("x", 0, keys);
    Candidate {
        id: id(number).parse().unwrap(),
        name: name.parse().unwrap(),
        person: crate::people::person(name).unwrap(),
        account: "111122223333".to_owned(),
        arn: arn(name),
        disabled: false,
        keys: Some(keys),
        accounts,
    }
}

fn candidates(all: impl IntoIterator<Item = Candidate>) -> Candidates {
    all.into_iter().map(|one| (one.id.to_string(), one)).collect()
}

/// What IAM and others say.
#[derive(Clone, Debug)]
struct World {
    roster: Roster,
    trust: Checked,
    candidates: Candidates,
    gone: BTreeSet<String>,
    memory: Memory,
    standing: BTreeMap<String, Id>,
    now: Moment,
}

impl World {
    fn new(people: Vec<Member>, all: impl IntoIterator<Item = Candidate>) -> Self {
        Self {
            roster: roster(people),
            trust: trust(),
            candidates: candidates(all),
            gone: BTreeSet::new(),
            memory: Memory::default(),
            standing: BTreeMap::new(),
            now: now(),
        }
    }

    fn with<T>(&self, what: impl FnOnce(&Facts<'_>) -> T) -> T {
        let source = "iam".parse().unwrap();
        let World { roster, trust, candidates, gone, memory, standing, now } = self;
        what(&Facts { roster, trust, source: &source, candidates, gone, memory, standing, now: *now })
    }

    fn plan(&self) -> Plan {
        self.with(plan)
    }

    fn held(&self) -> Vec<String> {
        self.plan().holds.into_iter().map(|hold| hold.person.to_string()).collect()
    }

    fn next(&self, mode: Mode) -> (Vec<Member>, String) {
        let mut notes = Vec::new();
        (self.with(|facts| next_people(facts, mode, &mut notes)), notes.join("\n"))
    }

    /// A complete run was made, and is remembered.
    fn run(&mut self, seconds: u64) {
        self.memory.absent = self.plan().absent;
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    fn remember(&mut self, name: &str, number: u8) {
        let user = User {
            account: "111122223333".to_owned(),
            name: name.to_owned(),
            arn: arn(name),
            detail: None,
            read_in: 1,
            seen_in: 1,
        };
        self.memory.users.insert(id(number), user);
    }
}

#[test]
fn absence_counts_after_two_complete_runs_that_are_apart() {
    let mut world = World::new(vec![member("frank", 1, &[1]), member("bob", 2, &[2])], [candidate("bob", 2, &[2])]);
    assert_eq!(world.held(), [""; 0]);
    world.run(1);
    assert_eq!(world.held(), [""; 0], "a second later is the same look");
    world.run(60);
    assert_eq!(world.held(), ["frank"]);
    assert!(
        world.plan().holds[0].reason.contains(&format!("frank (AIDA001, {}) is in none of the groups", arn("frank")))
    );
    // Seen again meanwhile: it is counted anew.
    let listed = world.clone();
    world.candidates.extend(candidates([candidate("frank", 1, &[1])]));
    world.run(60);
    world.candidates = listed.candidates;
    assert_eq!(world.held(), [""; 0]);
}

#[test]
fn who_is_deleted_replaced_or_disabled_is_held_at_once() {
    let mut world = World::new(vec![member("frank", 1, &[1])], []);
    world.gone.insert(id(1));
    assert_eq!(world.held(), ["frank"]);
    // Another user of the same name.
    let mut world = World::new(vec![member("frank", 1, &[1])], [candidate("Frank", 7, &[7])]);
    assert_eq!(world.held(), [""; 0], "which account that was is not known");
    world.remember("frank", 1);
    assert_eq!(world.held(), [""; 0], "who is new may not be known to all of IAM");
    world.memory.runs = 9;
    assert_eq!(world.held(), ["frank"]);
    let reason = world.plan().holds[0].reason.clone();
    assert!(reason.contains("arn:aws:iam::111122223333:user/frank") && reason.contains("another user"), "{reason}");
    let (proposed, _) = world.next(Mode::Proposed);
    assert_eq!((proposed[0].name.as_str(), proposed[0].iam.as_ref().unwrap().id.as_str()), ("Frank", "AIDA007"));
    let mut world = World::new(vec![member("frank", 1, &[1])], [candidate("frank", 1, &[1])]);
    world.candidates.values_mut().for_each(|one| one.disabled = true);
    assert_eq!(world.held(), ["frank"]);
    assert_eq!(world.next(Mode::Proposed).0, []);
}

#[test]
fn where_a_user_is_stands_in_the_roster_and_a_path_that_no_document_takes_keeps_nobody_in() {
    let moved = "arn:aws:iam::111122223333:user/eu/frank";
    let mut one = candidate("frank", 1, &[1]);
    one.arn = moved.to_owned();
    let world = World::new(vec![member("frank", 1, &[1])], [one.clone()]);
    let (proposed, _) = world.next(Mode::Proposed);
    assert_eq!(proposed[0].iam.as_ref().unwrap().arn.as_ref().unwrap().as_str(), moved);
    for path in ["a\\b".to_owned(), "p".repeat(500)] {
        one.arn = format!("arn:aws:iam::111122223333:user/{path}/frank");
        one.disabled = false;
        let mut world = World::new(vec![member("frank", 1, &[1])], [one.clone()]);
        assert_eq!(world.next(Mode::Proposed).0.len(), 1);
        world.candidates.values_mut().for_each(|one| one.disabled = true);
        let plan = world.plan();
        assert_eq!(plan.holds[0].reason, "the IAM user frank (AIDA001) is disabled by a tag");
        assert!(plan.holds[0].reason.parse::<document::Reason>().is_ok());
    }
}

#[test]
fn nobody_is_held_twice_nor_against_an_approvers_lift() {
    let mut world = World::new(vec![member("frank", 1, &[1])], []);
    world.gone.insert(id(1));
    let document = Id::of("hold");
    world.standing.insert("frank".to_owned(), document);
    assert_eq!(world.held(), [""; 0]);
    world.standing.clear();
    let held = Held { document, person: "frank".parse().unwrap(), lifted: true };
    world.memory.holds.insert(id(1), held.clone());
    assert_eq!(world.held(), [""; 0]);
    assert!(world.plan().notes[0].contains("an approver lifted"), "{:?}", world.plan());
    // Without a lift that was seen, it is signed again.
    world.memory.holds.insert(id(1), Held { lifted: false, ..held });
    assert_eq!(world.held(), ["frank"]);
    // Back in IAM, and held: that is for an approver to lift.
    world.gone.clear();
    world.candidates = candidates([candidate("frank", 1, &[1])]);
    world.standing.insert("frank".to_owned(), document);
    assert!(world.plan().notes[0].contains(&format!("lockdown lift {document}")));
    assert!(world.plan().fine.is_empty());
    world.standing.clear();
    assert_eq!(world.plan().fine, [id(1)].into());
}

#[test]
fn people_of_others_and_without_an_id_are_never_held() {
    let unlinked = Member { iam: None, ..member("uma", 0, &[3]) };
    let mut world = World::new(vec![by_hand("hana", &[1]), unlinked], [candidate("uma", 9, &[4])]);
    world.memory.absent = [("".to_owned(), Absent { runs: 9, at: now() })].into();
    world.run(600);
    assert_eq!(world.held(), [""; 0]);
    assert!(world.plan().notes[0].starts_with("uma is of iam"));
    let (proposed, _) = world.next(Mode::Proposed);
    assert_eq!(proposed[1], member("uma", 9, &[4]), "people may link them");
    assert_eq!(world.next(Mode::Automatic).0, world.roster.people, "and nobody else");
}

#[test]
fn joiners_changes_and_leavers_make_the_proposal() {
    let mut world = World::new(
        vec![by_hand("hana", &[1]), member("bob", 2, &[2, 3]), member("left", 4, &[4]), member("maybe", 5, &[5])],
        [candidate("bob", 2, &[3, 6]), candidate("new", 7, &[7]), candidate("a=b", 8, &[8])],
    );
    world.gone.insert(id(4));
    world.candidates.get_mut(&id(2)).unwrap().accounts =
        [("db".parse().unwrap(), ["root".parse().unwrap()].into())].into();
    let (proposed, notes) = world.next(Mode::Proposed);
    let names: Vec<&str> = proposed.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["a-b", "bob", "hana", "maybe", "new"], "{notes}");
    assert_eq!(proposed[0].iam.as_ref().unwrap().name.as_str(), "a=b");
    assert_eq!(proposed[1].keys, [key(3), key(6)].into());
    assert!(proposed[1].accounts.contains_key(&"db".parse().unwrap()));
    // A key that signs by itself drops nobody.
    let names: Vec<String> = world.next(Mode::Automatic).0.iter().map(|one| one.name.to_string()).collect();
    assert_eq!(names, ["a-b", "bob", "hana", "left", "maybe", "new"]);
}

#[test]
fn who_is_renamed_keeps_the_name_in_the_roster() {
    let mut world =
        World::new(vec![member("frank", 1, &[1])], [candidate("franz", 1, &[1]), candidate("frank", 2, &[2])]);
    world.remember("frank", 1);
    assert_eq!(world.held(), [""; 0]);
    let (proposed, notes) = world.next(Mode::Proposed);
    assert_eq!(proposed.len(), 1);
    assert_eq!((proposed[0].name.as_str(), proposed[0].iam.as_ref().unwrap().name.as_str()), ("frank", "franz"));
    assert!(notes.contains("user/frank is left out: frank is taken"), "{notes}");
}

#[test]
fn names_that_would_be_one_are_refused_with_both_named() {
    let world = World::new(vec![], [candidate("Bob", 1, &[1]), candidate("bob", 2, &[2]), candidate("Ana", 3, &[3])]);
    let (proposed, notes) = world.next(Mode::Proposed);
    assert_eq!(proposed, []);
    assert!(notes.contains("user/Bob and arn:aws:iam::111122223333:user/bob"), "{notes}");
    assert!(notes.contains("user/Ana is left out: ana is taken"), "{notes}");
    let world = World::new(vec![], [candidate("a=b", 1, &[1]), candidate("a,b", 2, &[2])]);
    assert!(world.next(Mode::Proposed).0.is_empty());
}

#[test]
fn a_key_stays_with_whoever_has_it() {
    let world = World::new(
        vec![by_hand("hana", &[1]), member("bob", 2, &[2])],
        [candidate("bob", 2, &[2]), candidate("eve", 3, &[1, 2, ANA, FEEDER, CEO, 3, 9]), candidate("mal", 4, &[9])],
    );
    let (proposed, notes) = world.next(Mode::Proposed);
    assert_eq!(proposed[0].keys, [key(2)].into());
    assert_eq!(proposed[1].keys, [key(3)].into());
    assert_eq!(proposed[3].keys, [].into(), "a key of two is nobody's");
    assert_eq!(notes.lines().count(), 6, "{notes}");
}

#[test]
fn the_automatic_key_changes_nobody_who_approves() {
    let world = World::new(vec![member("ana", 1, &[1])], [candidate("ana", 1, &[2]), candidate("ceo", 3, &[3])]);
    assert_eq!(world.next(Mode::Automatic).0, world.roster.people);
    let (proposed, _) = world.next(Mode::Proposed);
    assert_eq!(proposed.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["ana", "ceo"]);
}

/// What a host makes of a roster that this key signed.
fn verdict(world: &World, people: Vec<Member>, seed: u8) -> Verdict {
    let place = Place { host: None, stack: "web".parse().unwrap(), people: BTreeMap::new() };
    let mut judge = Judge::begin(trust(), place, now());
    let sealed = |roster: Roster, seed| {
        let document = Document::new(Body::from(roster)).unwrap();
        let private = ssh_key::PrivateKey::from(pair(seed));
        let signature = private
            .sign(document.namespace().as_str(), ssh_key::HashAlg::Sha512, document.line().as_bytes())
            .unwrap()
            .to_pem(ssh_key::LineEnding::LF)
            .unwrap();
        Envelope::new(document, vec![signature]).unwrap()
    };
    assert!(matches!(judge.judge(&sealed(world.roster.clone(), CEO), now()).verdict, Verdict::Accepted(_)));
    let next = Roster { people, version: 2.try_into().unwrap(), ..world.roster.clone() };
    judge.judge(&sealed(next, seed), now()).verdict
}

const NAMES: [&str; 8] = ["ana", "ceo", "bob", "Bob", "frank", "a=b", "a,b", "hana"];

prop_compose! {
    fn any_member()(name in 0..6_usize, number in 0..6_u8, keys in prop::collection::btree_set(0..12_u8, 0..3), linked in any::<bool>(), mine in any::<bool>())
        -> Member
    {
        let keys: Vec<u8> = keys.into_iter().collect();
        let name = NAMES[name].replace('=', "-").replace("Bob", "bobby");
        let member = if mine { member(&name, number, &keys) } else { by_hand(&name, &keys) };
        if linked { member } else { Member { iam: None, ..member } }
    }
}

prop_compose! {
    fn any_candidate()(name in 0..NAMES.len(), number in 0..8_u8, keys in prop::collection::btree_set(0..14_u8, 0..4), disabled in prop::bool::weighted(0.1), read in prop::bool::weighted(0.9))
        -> Candidate
    {
        let keys: Vec<u8> = keys.into_iter().collect();
        let one = candidate(NAMES[name], number, &keys);
        Candidate { disabled, keys: one.keys.clone().filter(|_| read), ..one }
    }
}

prop_compose! {
    /// Any roster that can be, and anything that IAM may say.
    fn any_world()(people in prop::collection::vec(any_member(), 0..6), all in prop::collection::vec(any_candidate(), 0..8), gone in prop::collection::btree_set(0..8_u8, 0..3), counted in prop::collection::btree_map(0..8_u8, 1..3_u64, 0..4))
        -> World
    {
        let mut kept: Vec<Member> = Vec::new();
        for one in people {
            let clash = |other: &Member| lower(&other.name) == lower(&one.name)
                || (other.iam.is_some() && other.iam.as_ref().map(|iam| &iam.id) == one.iam.as_ref().map(|iam| &iam.id))
                || !other.keys.is_disjoint(&one.keys);
            if !kept.iter().any(clash) {
                kept.push(one);
            }
        }
        let mut world = World::new(kept, all);
        world.gone = gone.into_iter().map(id).collect();
        world.memory.absent = counted.into_iter().map(|(number, runs)| (id(number), Absent { runs, at: now().before(Duration::from_secs(60)) })).collect();
        world
    }
}

proptest! {
    #[test]
    fn only_people_of_the_source_are_held_and_only_for_a_reason(world in any_world()) {
        for hold in world.plan().holds {
            let member = world.roster.people.iter().find(|one| one.name == hold.person).unwrap();
            prop_assert_eq!(member.source.as_str(), "iam");
            let user = member.iam.as_ref().unwrap().id.as_str();
            prop_assert_eq!(user, hold.id.as_str());
            let listed = world.candidates.get(user);
            let counted = world.memory.absent.contains_key(user);
            prop_assert!(listed.is_some_and(|one| one.disabled) || (listed.is_none() && (world.gone.contains(user) || counted)));
            prop_assert!(hold.reason.parse::<document::Reason>().is_ok());
        }
    }

    #[test]
    fn an_empty_answer_closes_nothing_by_itself(world in any_world()) {
        let world = World { candidates: Candidates::new(), gone: BTreeSet::new(), memory: Memory::default(), ..world };
        prop_assert_eq!(world.held(), [""; 0]);
        prop_assert_eq!(world.next(Mode::Proposed).0, world.roster.people.clone());
        prop_assert_eq!(world.next(Mode::Automatic).0, world.roster.people.clone());
    }

    #[test]
    fn every_proposal_is_a_roster_and_leaves_others_alone(world in any_world()) {
        for mode in [Mode::Proposed, Mode::Automatic] {
            let (people, _) = world.next(mode);
            let others = |all: &[Member]| all.iter().filter(|one| one.source.as_str() != "iam").cloned().collect::<Vec<_>>();
            prop_assert_eq!(others(&people), others(&world.roster.people));
            for one in people.iter().filter(|one| one.source.as_str() == "iam") {
                let before = world.roster.people.iter().find(|other| other.name == one.name);
                let listed = one.iam.as_ref().and_then(|iam| world.candidates.get(iam.id.as_str()));
                let is_told = listed.is_some_and(|listed| {
                    listed.keys.as_ref().is_some_and(|keys| one.keys.is_subset(keys)) && one.accounts == listed.accounts
                });
                prop_assert!(before == Some(one) || is_told, "{one:?}");
            }
            let next = Document::new(Body::from(Roster { people: people.clone(), ..world.roster.clone() }));
            prop_assert!(next.is_ok());
            let once = World { roster: roster(people.clone()), ..world.clone() };
            prop_assert_eq!(once.next(mode).0, people, "what is done is not to be done again");
        }
    }

    #[test]
    fn hosts_take_whatever_the_automatic_key_may_sign(world in any_world()) {
        let (people, _) = world.next(Mode::Automatic);
        let verdict = verdict(&world, people, FEEDER);
        prop_assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    }
}
