//! With its key in `stack.roster.automatic`: joiners get in by themselves, and nobody who approves is touched.

use crate::{
    fake::Fault,
    office::{Office, made_key, member},
    simple::two_in,
};

#[test]
fn joiners_and_changes_are_signed_by_the_feeders_key_and_leavers_are_held() {
    let people = vec![member("frank", "AIDAFRANK", &[1]), member("bob", "AIDABOB", &[2])];
    let (office, fake) = two_in(Office::automatic(people));
    fake.user("zoe", "AIDAZOE", &["ops"]);
    fake.key("zoe", "APKA3", made_key(3).as_str());
    // Somebody calls themselves as an approver is called.
    fake.user("ana", "AIDAANA", &["ops"]);
    fake.delete("frank");
    office.run(&["sync"]).with(0).says("held: frank").says("signed by this key").says("+ zoe").says("- frank");
    let host = office.host();
    let names: Vec<&str> = host.roster().unwrap().people.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["bob", "frank", "zoe"], "who left is held, and people drop them");
    assert_eq!(office.held(), ["frank"]);
    let proposed = office.proposed().unwrap();
    let names: Vec<&str> = proposed.people.iter().map(|one| one.name.as_str()).collect();
    assert_eq!((names, proposed.version.number()), (vec!["ana", "bob", "zoe"], 3));
    let documents = office.feed().len();
    office.run(&["sync"]).with(0).says_not("signed by this key");
    assert_eq!(office.feed().len(), documents);
    // A second change by the same key, and a server whose rosters are both known by then.
    fake.key("zoe", "APKA4", made_key(4).as_str());
    office.run(&["sync"]).with(0).says("~ zoe");
    assert_eq!(office.host().roster().unwrap().version.number(), 3);
    fake.goes_wrong("ListSSHPublicKeys", Fault::HalfOfTheText, u32::MAX);
    office.run(&["sync"]).with(69);
    assert_eq!(office.host().roster().unwrap().version.number(), 3);
}
