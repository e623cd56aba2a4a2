//! The directory's bounds, whatever is laid there, and what a restart finds.

use serde_json::json;

use super::*;
use crate::{
    feeds::testing::{self, Doc, answer, grant, inbox, lockdown, roster},
    settings::Feeds,
    testing::paths,
};

fn lease(feeds: &[&str]) -> Lease {
    Lease { generation: 1, feeds: feeds.iter().map(|feed| (*feed).to_owned()).collect() }
}

fn taken(documents: &[Doc]) -> Answer {
    let (organization, stack) = ("acme".parse().unwrap(), "web".parse().unwrap());
    let asked = Feeds { organization, stack, feeds: Vec::new(), left_out: 0 };
    Answer::parse(answer(None, documents).to_string().into_bytes(), &asked, None).unwrap()
}

/// Lays all of them down, and says how many were.
fn lay(to: &Inbox, lease: &Lease, feed: &str, documents: &[Doc]) -> usize {
    let heard = to.settle(lease).unwrap();
    to.put(lease, &Laying { feed, answer: &taken(documents), from: 0 }, &heard).unwrap()
}

fn lies(paths: &Paths, document: &Doc) -> bool {
    paths.inbox().join(format!("{}.json", document.id)).exists()
}

fn says(paths: &Paths, done: &[&Doc], waiting: &[Doc]) {
    let done: Vec<_> = done.iter().map(|document| document.id).collect();
    let waiting: Vec<_> = waiting.iter().map(|document| document.id).collect();
    let said = json!({ "v": 1, "done": done, "waiting": waiting, "feeds": [{ "feed": "a", "position": 4 }] });
    fs::write(paths.heard(), said.to_string()).unwrap();
}

#[test]
fn what_is_laid_down_lies_there_as_it_came_and_goes_once_the_daemon_has_done_with_it() {
    let (_dir, paths) = paths();
    let (to, lease) = (Inbox::new(paths.clone()), lease(&["a"]));
    let documents = [grant(1), lockdown(2), roster(1)];
    assert_eq!(lay(&to, &lease, "a", &documents), 3);
    for document in &documents {
        let bytes = fs::read(paths.inbox().join(format!("{}.json", document.id))).unwrap();
        assert_eq!(bytes, document.envelope.to_string().into_bytes());
    }
    says(&paths, &[&documents[0]], &documents[1..]);
    assert_eq!(to.settle(&lease).unwrap().position("a"), Some(4));
    assert!(!lies(&paths, &documents[0]) && lies(&paths, &documents[1]));
    // Offered again, it stays away: the daemon knows it.
    assert_eq!(lay(&to, &lease, "a", &documents), 3);
    assert_eq!(inbox(&paths).0.len(), 2);
    fs::write(paths.heard(), "{}").unwrap();
    assert!(to.settle(&lease).unwrap_err().to_string().contains("cannot be understood"));
    fs::write(paths.heard(), r#"{"v":2}"#).unwrap();
    assert!(to.settle(&lease).unwrap_err().to_string().contains("version 2"));
}

#[test]
fn it_never_holds_more_than_it_may_and_what_closes_takes_the_place_of_grants() {
    let (_dir, paths) = paths();
    let (to, lease) = (Inbox::new(paths.clone()), lease(&["a"]));
    let grants: Vec<_> = (0..300).map(grant).collect();
    assert_eq!(lay(&to, &lease, "a", &grants), MAX_FILES);
    assert_eq!(lay(&to, &lease, "a", &[grant(999)]), 0, "a grant displaces none that was not looked at");
    assert_eq!(lay(&to, &lease, "a", &[lockdown(1)]), 1);
    assert!(lies(&paths, &lockdown(1)) && inbox(&paths).0.len() == MAX_FILES);
    // Those that wait make room for what is new, the oldest first.
    says(&paths, &[], &grants);
    assert_eq!(lay(&to, &lease, "a", &[grant(999)]), 1);
    assert!(lies(&paths, &grant(999)) && inbox(&paths).0.len() == MAX_FILES);
    let closing: Vec<_> = (2..400).map(lockdown).collect();
    assert_eq!(lay(&to, &lease, "a", &closing), MAX_FILES - 1, "and then there is no grant left");
    assert!(lies(&paths, &lockdown(1)) && !lies(&paths, &grant(999)));
    assert_eq!(lay(&to, &lease, "a", &[roster(1)]), 0, "nothing that closes goes before the daemon has seen it");
    says(&paths, &[], &closing);
    assert_eq!(lay(&to, &lease, "a", &[roster(1)]), 1);
    assert_eq!(lay(&to, &lease, "a", &[grant(5)]), 0, "and a grant displaces nothing that closes");
    assert_eq!(inbox(&paths).0.len(), MAX_FILES);
}

#[test]
fn bytes_are_bounded_as_files_are() {
    let (_dir, paths) = paths();
    let (to, lease) = (Inbox::new(paths.clone()), lease(&["a"]));
    let answer = taken(&(1..=9).map(roster).collect::<Vec<_>>());
    let heard = to.settle(&lease).unwrap();
    let mut held = to.held(&lease).unwrap();
    // As if each had 10 MiB.
    let new = New { feed: "a", rank: Rank::Roster, bytes: 10 << 20 };
    for (n, offered) in answer.documents.iter().enumerate() {
        assert_eq!(held.victim(&new, &heard), None);
        assert_eq!(held.has_room(&new), n < 6, "{n}");
        if n < 6 {
            held.enter("a", offered, 10 << 20);
        }
    }
    assert!(held.amount(|_| true).bytes <= MAX_BYTES);
}

#[test]
fn no_feed_takes_the_room_of_another_also_after_a_restart() {
    let (_dir, paths) = paths();
    let lease = lease(&["a", "b"]);
    let to = Inbox::new(paths.clone());
    let closing: Vec<_> = (0..400).map(lockdown).collect();
    let share = MAX_FILES / 2;
    assert_eq!(lay(&to, &lease, "b", &closing), share);
    let to = Inbox::new(paths.clone());
    assert_eq!(lay(&to, &lease, "b", &closing[share..]), 0);
    says(&paths, &[], &closing);
    assert_eq!(lay(&to, &lease, "b", &[roster(1)]), 1);
    let good: Vec<_> = (1000..1400).map(lockdown).collect();
    assert_eq!(lay(&to, &lease, "a", &good), share);
    assert!(good[..share].iter().all(|document| lies(&paths, document)));
    assert_eq!(inbox(&paths).0.len(), MAX_FILES);
}

#[test]
fn what_no_feed_owns_and_what_is_beyond_a_share_makes_room() {
    let (_dir, paths) = paths();
    let alone = lease(&["b"]);
    let to = Inbox::new(paths.clone());
    let closing: Vec<_> = (0..256).map(lockdown).collect();
    assert_eq!(lay(&to, &alone, "b", &closing), MAX_FILES);
    // A second feed: the first has more than its share now.
    let both = Lease { generation: 2, ..lease(&["a", "b"]) };
    assert_eq!(lay(&to, &both, "a", &[lockdown(999)]), 1);
    // The first is gone.
    let other = Lease { generation: 3, ..lease(&["a"]) };
    let good: Vec<_> = (1000..1200).map(lockdown).collect();
    assert_eq!(lay(&to, &other, "a", &good), 200);
    assert_eq!(inbox(&paths).0.len(), MAX_FILES);
    assert!(matches!(to.settle(&both), Err(InboxError::Over)), "the turn of those before is over");
}

#[test]
fn a_restart_finds_what_lay_there_and_takes_away_what_is_none() {
    let (_dir, paths) = paths();
    let (to, lease) = (Inbox::new(paths.clone()), lease(&["a"]));
    let documents = [grant(1), lockdown(2)];
    assert_eq!(lay(&to, &lease, "a", &documents), 2);
    to.conclude(&lease, "a", &"web".parse().unwrap(), &taken(&documents)).unwrap();
    let dir = paths.inbox();
    for (name, bytes) in [
        (format!(".{}.tmp", grant(3).id), "half".to_owned()),
        (format!("{}.json", grant(4).id), grant(5).envelope.to_string()),
        (format!("{}.json", grant(6).id), "{".to_owned()),
        (format!("{}.json", testing::statement().id), testing::statement().envelope.to_string()),
        ("feed-2.json".to_owned(), "{}".to_owned()),
        ("x".to_owned(), String::new()),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
    }
    // Without the index too: then nobody knows whose they are.
    for _ in 0..2 {
        let to = Inbox::new(paths.clone());
        to.settle(&lease).unwrap();
        let (names, _) = inbox(&paths);
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(documents.iter().all(|document| lies(&paths, document)) && dir.join("feed.json").exists());
        assert_eq!(lay(&to, &lease, "a", &documents), 2);
        files::remove_if_there(&paths.inbox_index()).unwrap();
    }
    let said: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("feed.json")).unwrap()).unwrap();
    assert_eq!(
        (&said["v"], &said["feed"], &said["stack"], &said["after"]),
        (&json!(1), &json!("a"), &json!("web"), &json!(null))
    );
    assert_eq!((&said["next"], &said["ids"]), (&json!(2), &json!(documents.map(|document| document.id))));
    assert_eq!(said["statement"], testing::statement().envelope);
    to.clear(&lease).unwrap();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    to.clear(&lease).unwrap();
}

#[test]
fn a_disk_that_takes_nothing_leaves_no_half_a_document() {
    let (_dir, paths) = paths();
    let (to, lease) = (Inbox::new(paths.clone()), lease(&["a"]));
    to.settle(&lease).unwrap();
    // Where the new file would be, something is in the way.
    let tmp = paths.inbox().join(format!(".{}.tmp", lockdown(1).id));
    std::os::unix::fs::symlink("/dev/full", &tmp).unwrap();
    let heard = Heard::default();
    let answer = taken(&[grant(1), lockdown(1)]);
    let laying = Laying { feed: "a", answer: &answer, from: 0 };
    assert!(to.put(&lease, &laying, &heard).is_err());
    assert!(!lies(&paths, &lockdown(1)));
    // Asked for again, it goes on.
    assert_eq!(to.put(&lease, &laying, &heard).unwrap(), 2);
    assert!(lies(&paths, &lockdown(1)) && lies(&paths, &grant(1)));
}
