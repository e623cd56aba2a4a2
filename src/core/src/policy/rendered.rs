//! Grants that the configuration renders: which are to be made, and which end because it no longer backs them.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use record::GrantId;
use sha2::{Digest, Sha256};

use super::{
    grant::{EndCause, Grant, Origin},
    observation::Known,
    shared::kept_for,
};
use crate::config::{self, Config, RenderedGrant};

/// What a configuration, or a change of the accounts, asks of the grants.
#[derive(Debug, Default)]
#[must_use]
pub struct Changes<'a> {
    /// Rendered grants to make, each with the moment from which `max_duration` counts where an earlier grant of the
    /// same content says so.
    pub make: Vec<(&'a RenderedGrant, Option<Timestamp>)>,
    /// Grants to end, each with its reason.
    pub end: Vec<(GrantId, String)>,
    /// Grants, ended ones too, whose content now stands elsewhere, each with its place.
    pub moved: Vec<(GrantId, String)>,
}

/// Judges every grant against the configuration and the accounts there are.
pub fn judge<'a>(config: &'a Config, accounts: &Known, grants: &[Grant], now: Timestamp) -> Changes<'a> {
    let mut changes = Changes::default();
    let rendered: BTreeMap<String, &RenderedGrant> = config.rendered.iter().map(|r| (content(r), r)).collect();
    for grant in grants.iter().filter(|grant| grant.is_open()) {
        if let Some(reason) = no_longer_backed(config, accounts, &rendered, grant) {
            changes.end.push((grant.id.clone(), reason));
        }
    }
    for grant in grants {
        if let Origin::Config { content, place } = &grant.origin
            && let Some(now_at) = rendered.get(content).map(|wanted| wanted.place.to_string())
            && now_at != *place
        {
            changes.moved.push((grant.id.clone(), now_at));
        }
    }
    for (content, wanted) in rendered {
        let same: Vec<&Grant> = grants.iter().filter(|g| g.origin.content() == Some(&content)).collect();
        // Ended by a person, a lockdown or its own time: neither restart nor reload brings it back.
        let stays_ended = |grant: &&Grant| grant.end.as_ref().is_none_or(|end| end.cause != EndCause::Config);
        let cannot_be = config.accounts.exempt.contains(&wanted.account)
            || !accounts.uids.contains_key(&wanted.account)
            || kept_for(&wanted.account, &accounts.uids, &config.accounts.exempt).is_some();
        if wanted.expires_at > now && !cannot_be && !same.iter().any(stays_ended) {
            changes.make.push((wanted, same.iter().map(|grant| grant.created_at).min()));
        }
    }
    changes
}

fn no_longer_backed(
    config: &Config,
    accounts: &Known,
    rendered: &BTreeMap<String, &RenderedGrant>,
    grant: &Grant,
) -> Option<String> {
    let (person, account) = (&grant.person, &grant.account);
    if let Origin::Config { content, place } = &grant.origin
        && !rendered.contains_key(content)
    {
        return Some(format!("the configuration no longer holds the grant that stood at {place}"));
    }
    if config.accounts.exempt.contains(account) {
        return Some(format!("the account {account} is now exempt, and exempt accounts take no grants"));
    }
    // Whether a document still gives it is for the roster to say.
    if grant.origin.document().is_none() {
        let Some(entry) = config.people.get(person) else {
            return Some(format!("the configuration no longer names {person}"));
        };
        if !entry.accounts.contains(account) {
            return Some(format!("the configuration no longer lets {person} be given the account {account}"));
        }
    }
    match accounts.uids.get(account) {
        // It may only not have been seen yet.
        None if !accounts.settled => None,
        None => Some(format!("the account {account} was deleted")),
        Some(uid) if *uid != grant.uid => Some(format!("the account {account} was made anew, with another user id")),
        Some(_) => None,
    }
}

/// The SHA-256, in hex, of a rendered grant's terms as the configuration writes them: equal terms, equal digest.
#[must_use]
pub fn content(grant: &RenderedGrant) -> String {
    let digest = Sha256::digest(config::written_grant(grant));
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::test_keys::ED25519,
        policy::test_grants::{ended, grant, id, now},
    };

    const RENDERED: &str = "[[grant]]\nperson = \"frank\"\naccount = \"ubuntu\"\nexpires_at = \"2027-01-15T18:00:00Z\"\nreason = \"INC-42\"\n";

    fn config(exempt: &str, accounts: &str, grants: &str) -> Config {
        let text = format!(
            "mode = \"enforce\"\n[accounts]\nexempt = [{exempt}]\n[[person]]\nname = \"frank\"\nkeys = [\"{ED25519}\"]\n\
             accounts = [{accounts}]\n{grants}"
        );
        Config::parse(&[("config.toml", &text)]).unwrap_or_else(|error| panic!("{error}"))
    }

    fn usual(grants: &str) -> Config {
        config("\"breakglass\"", "\"ubuntu\", \"frank\"", grants)
    }

    fn accounts() -> Known {
        let uids = ["ubuntu", "frank"].map(|name| (name.parse().expect("an account"), 1_000)).into();
        Known { uids, settled: true }
    }

    fn no_accounts() -> Known {
        Known { settled: true, ..Known::default() }
    }

    /// What is made, and what is ended with which reason.
    fn judged(config: &Config, accounts: &Known, grants: &[Grant]) -> (usize, Vec<String>) {
        let changes = judge(config, accounts, grants, now().wall);
        (changes.make.len(), changes.end.into_iter().map(|(_, reason)| reason).collect())
    }

    /// The grant that [`RENDERED`] asks for.
    fn made() -> Grant {
        let origin =
            Origin::Config { place: "config.toml:9:1".to_owned(), content: content(&usual(RENDERED).rendered[0]) };
        Grant { origin, ..grant(1, "frank", "ubuntu") }
    }

    #[test]
    fn a_rendered_grant_is_made_once_and_ends_when_it_is_no_longer_rendered() {
        assert_eq!(judged(&usual(RENDERED), &accounts(), &[]), (1, vec![]));
        assert_eq!(judged(&usual(RENDERED), &accounts(), &[made()]), (0, vec![]));
        let (made_now, reasons) = judged(&usual(""), &accounts(), &[made()]);
        assert!(made_now == 0 && reasons[0].contains("config.toml:9:1"), "{reasons:?}");
        let changed = RENDERED.replace("INC-42", "INC-43");
        let (made_now, reasons) = judged(&usual(&changed), &accounts(), &[made()]);
        assert_eq!((made_now, reasons.len()), (1, 1), "another content is another grant");
        let over = RENDERED.replace("2027-01-15T18", "2027-01-15T07");
        assert_eq!(judged(&usual(&over), &accounts(), &[]), (0, vec![]), "it is over already");
    }

    #[test]
    fn what_was_ended_on_somebodys_word_or_by_time_never_comes_back_while_it_is_rendered_the_same() {
        for cause in [EndCause::Expired, EndCause::Revoked, EndCause::Lockdown, EndCause::Identity] {
            assert_eq!(judged(&usual(RENDERED), &accounts(), &[ended(made(), cause, true)]), (0, vec![]), "{cause}");
        }
        // What the configuration ended it brings back, and its longest life counts from the first time.
        let before = ended(
            Grant { created_at: "2027-01-15T01:00:00Z".parse().expect("a time"), ..made() },
            EndCause::Config,
            true,
        );
        let again = ended(Grant { id: id(2), ..made() }, EndCause::Config, true);
        let (config, grants) = (usual(RENDERED), [before.clone(), again]);
        let changes = judge(&config, &accounts(), &grants, now().wall);
        assert_eq!(changes.make.iter().map(|(_, since)| *since).collect::<Vec<_>>(), [Some(before.created_at)]);
    }

    #[test]
    fn any_grant_ends_that_config_or_accounts_no_longer_back() {
        let operators = [grant(1, "frank", "ubuntu")];
        assert_eq!(judged(&usual(""), &accounts(), &operators), (0, vec![]));
        let nobody = Config::parse(&[("config.toml", "mode = \"observe\"")]).expect("good");
        let uids = BTreeMap::from([("ubuntu".parse().expect("an account"), 1_001)]);
        let anew = Known { uids, settled: true };
        for (config, accounts, why) in [
            (nobody, accounts(), "no longer names frank"),
            (config("\"ubuntu\"", "\"frank\"", ""), accounts(), "is now exempt"),
            (config("", "\"frank\"", ""), accounts(), "no longer lets frank be given the account ubuntu"),
            (usual(""), no_accounts(), "was deleted"),
            (usual(""), anew, "made anew"),
        ] {
            let (_, reasons) = judged(&config, &accounts, &operators);
            assert!(reasons.len() == 1 && reasons[0].contains(why), "{why}: {reasons:?}");
        }
    }

    #[test]
    fn a_grant_whose_template_has_moved_is_named_by_its_new_place() {
        let moved = usual(&format!("\n\n{RENDERED}"));
        let revoked = ended(Grant { id: id(2), ..made() }, EndCause::Revoked, true);
        let (grants, accounts) = ([made(), revoked, grant(3, "frank", "ubuntu")], accounts());
        let changes = judge(&moved, &accounts, &grants, now().wall);
        let place = moved.rendered[0].place.to_string();
        assert_eq!(changes.moved, [(id(1), place.clone()), (id(2), place)]);
        assert!(changes.make.is_empty() && changes.end.is_empty());
    }

    #[test]
    fn no_grant_ends_for_an_account_that_was_not_seen_yet() {
        let operators = [grant(1, "frank", "ubuntu")];
        assert_eq!(judged(&usual(""), &Known::default(), &operators), (0, vec![]));
        assert_eq!(judged(&usual(""), &no_accounts(), &operators).1.len(), 1);
    }

    #[test]
    fn a_rendered_grant_waits_for_its_account() {
        assert_eq!(judged(&usual(RENDERED), &no_accounts(), &[]), (0, vec![]));
    }

    #[test]
    fn a_rendered_grant_is_not_made_while_its_account_has_an_exempt_accounts_user_id_and_no_grant_ends_by_that() {
        let uids = ["ubuntu", "frank", "breakglass"].map(|name| (name.parse().expect("an account"), 1_000)).into();
        let shared = Known { uids, settled: true };
        assert_eq!(judged(&usual(RENDERED), &shared, &[]), (0, vec![]));
        assert_eq!(judged(&usual(RENDERED), &shared, &[made()]), (0, vec![]));
    }

    #[test]
    fn equal_terms_have_one_digest_wherever_they_stand_and_every_term_counts() {
        let digest = |text: &str| content(&usual(text).rendered[0]);
        let first = digest(RENDERED);
        assert_eq!(first, digest(&format!("\n# moved\n{}", RENDERED.replace("18:00:00Z", "18:00:00.000Z"))));
        let others = [
            RENDERED.replace("\"ubuntu\"", "\"frank\""),
            RENDERED.replace("18:00:00Z", "18:00:01Z"),
            RENDERED.replace("INC-42", "INC-43"),
            format!("{RENDERED}from = [\"10.0.0.0/8\"]\n"),
            format!("{RENDERED}starts_at = \"2027-01-15T09:00:00Z\"\n"),
        ];
        for other in others {
            assert_ne!(first, digest(&other), "{other}");
        }
    }
}
