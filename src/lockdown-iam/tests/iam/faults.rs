//! An IAM that fails, tells a part, or tells something else: nothing is opened or closed by it.

use std::{collections::BTreeMap, fs};

use crate::{
    fake::{Fake, Fault},
    office::Office,
    simple::two,
};

/// What is in the state directory, and in the feed.
fn all(office: &Office) -> (BTreeMap<String, Vec<u8>>, usize) {
    let files = fs::read_dir(office.path("state")).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    });
    (files.collect(), office.feed().len())
}

/// Two more are new, one is deleted: a run would have something to do.
fn busy() -> (Office, Fake) {
    let (office, fake) = two();
    for (name, id) in [("zoe", "AIDAZOE"), ("yan", "AIDAYAN"), ("xia", "AIDAXIA")] {
        fake.user(name, id, &["dev"]);
    }
    fake.delete("frank");
    (office, fake)
}

#[track_caller]
fn changes_nothing(office: &Office, fake: &Fake, action: &'static str, fault: Fault) {
    let before = all(office);
    fake.goes_wrong(action, fault, u32::MAX);
    let said = office.run(&["sync"]);
    assert!([1, 69].contains(&said.status), "{action} {fault:?}: {said:?}");
    assert!(!said.err.is_empty(), "{action} {fault:?}: it is told");
    assert_eq!(all(office), before, "{action} {fault:?}");
    assert!(fake.calls().values().all(|count| *count <= 8), "the tries are bounded");
    fake.is_well();
}

#[test]
fn answers_that_are_denied_or_of_another_kind_change_nothing() {
    let (office, fake) = busy();
    for action in ["GetGroup", "ListUserTags", "ListSSHPublicKeys"] {
        changes_nothing(&office, &fake, action, Fault::Error(403, "AccessDenied"));
        changes_nothing(&office, &fake, action, Fault::Error(400, "InvalidClientTokenId"));
        changes_nothing(&office, &fake, action, Fault::Page(404));
    }
    changes_nothing(&office, &fake, "GetGroup", Fault::Error(404, "NoSuchEntity"));
    changes_nothing(&office, &fake, "GetGroup", Fault::Circle);
    office.run(&["sync"]).with(0).says("held: frank").says("+ zoe");
}

#[test]
fn answers_that_never_come_whole_change_nothing() {
    let (office, fake) = busy();
    changes_nothing(&office, &fake, "GetGroup", Fault::HalfOfTheText);
    changes_nothing(&office, &fake, "ListUserTags", Fault::HalfOfTheBody);
    changes_nothing(&office, &fake, "ListSSHPublicKeys", Fault::HangUp);
    changes_nothing(&office, &fake, "GetGroup", Fault::Endless);
    office.run(&["sync"]).with(0).says("held: frank");
}

#[test]
fn an_answer_that_does_not_come_changes_nothing() {
    let (office, fake) = busy();
    changes_nothing(&office, &fake, "ListUserTags", Fault::Silence);
}

#[test]
fn throttling_and_failures_beyond_the_tries_change_nothing() {
    let (office, fake) = busy();
    changes_nothing(&office, &fake, "GetGroup", Fault::Error(400, "Throttling"));
    changes_nothing(&office, &fake, "ListUserTags", Fault::Page(503));
    // For a short time, they are waited for.
    fake.goes_wrong("GetGroup", Fault::Error(400, "Throttling"), 2);
    office.run(&["sync"]).with(0).says("held: frank");
}

#[test]
fn answers_about_something_else_change_nothing() {
    let (office, fake) = busy();
    changes_nothing(&office, &fake, "GetGroup", Fault::OtherGroup);
    changes_nothing(&office, &fake, "GetGroup", Fault::OtherAccount);
}

#[test]
fn an_empty_list_where_there_were_users_is_refused() {
    let (office, fake) = busy();
    changes_nothing(&office, &fake, "GetGroup", Fault::Empty);
    // One whose only user was deleted is empty for a reason.
    fake.with(|state| state.groups.get_mut("ops").unwrap().clear());
    let before = all(&office);
    office.run(&["sync"]).with(1).says("111122223333/ops is empty, and had 1 users").says("may_be_empty");
    assert_eq!(all(&office), before);
    fake.delete("bob");
    office.run(&["sync"]).with(0).says("held: bob");
}

#[test]
fn a_page_that_is_missing_once_closes_nothing() {
    let (office, fake) = two();
    for (name, id) in [("a1", "AIDAA1"), ("a2", "AIDAA2")] {
        fake.user(name, id, &["dev"]);
    }
    fake.with(|state| state.page = 1);
    office.run(&["sync"]).with(0);
    fake.with(|state| state.groups.get_mut("ops").unwrap().clear());
    fake.user("other", "AIDAOTHER", &["ops"]);
    fake.goes_wrong("GetGroup", Fault::PageMissing, u32::MAX);
    office.run(&["sync"]).with(0).says_not("held: ");
    assert_eq!(office.held(), [""; 0]);
    let proposed = office.proposed().unwrap();
    assert!(proposed.people.iter().any(|one| one.name.as_str() == "bob"), "nor is anybody dropped for it");
    fake.is_well();
    office.a_minute_later();
    office.run(&["sync"]).with(0).says_not("held: ");
    assert_eq!(office.held(), [""; 0]);
}

#[test]
fn the_order_of_an_answer_says_nothing() {
    let (office, fake) = two();
    let before = all(&office);
    fake.goes_wrong("GetGroup", Fault::Reversed, u32::MAX);
    office.run(&["sync"]).with(0).says("the roster is as IAM has it");
    assert_eq!(all(&office).1, before.1);
}

#[test]
fn without_the_server_nothing_is_asked_of_iam() {
    let (office, fake) = busy();
    let text = fs::read_to_string(office.path("iam.toml")).unwrap();
    let broken = text.replacen("https://localhost:", "https://localhost:1", 1);
    let broken =
        broken.lines().map(|line| if line.starts_with("server") { "server = \"https://localhost:9\"" } else { line });
    fs::write(office.path("iam.toml"), broken.collect::<Vec<_>>().join("\n")).unwrap();
    fake.calls();
    office.run(&["sync"]).with(69).says("https://localhost:9");
    assert_eq!(fake.calls(), BTreeMap::new());
    fs::write(office.path("iam.toml"), text).unwrap();
    office.run(&["sync"]).with(0).says("held: frank");
}
