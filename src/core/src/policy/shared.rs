//! Accounts that have the user id of another one.
//!
//! To the kernel they are one: who logs in to the one has the files and processes of the other. So nobody is let in to an
//! account that has the user id of an exempt account, or root's by another name.

use std::collections::{BTreeMap, BTreeSet};

use record::Account;

/// The account that keeps people out of this one: one that is exempt, or root, and has the same user id.
#[must_use]
pub fn kept_for<'a>(
    account: &Account,
    uids: &'a BTreeMap<Account, u32>,
    exempt: &'a BTreeSet<Account>,
) -> Option<&'a Account> {
    let uid = uids.get(account)?;
    let is_other = |other: &&Account| *other != account;
    let an_exempt = exempt.iter().find(|other| is_other(other) && uids.get(*other) == Some(uid));
    let root = || uids.keys().find(|other| other.as_str() == "root").filter(is_other);
    if *uid == 0 { an_exempt.or_else(root) } else { an_exempt }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_with_the_user_id_of_an_exempt_one_or_of_root_is_kept_for_that_one() {
        let account = |name: &str| name.parse::<Account>().expect("an account");
        let uids: BTreeMap<Account, u32> =
            [("root", 0), ("toor", 0), ("breakglass", 1_000), ("bg", 1_000), ("ubuntu", 1_001), ("u2", 1_001)]
                .map(|(name, uid)| (account(name), uid))
                .into();
        let exempt = [account("breakglass")].into();
        for (name, kept) in [
            ("bg", Some("breakglass")),
            ("toor", Some("root")),
            ("root", None),
            ("ubuntu", None),
            ("u2", None),
            ("breakglass", None),
            ("nobody", None),
        ] {
            assert_eq!(kept_for(&account(name), &uids, &exempt).map(Account::as_str), kept, "{name}");
        }
        let exempt = [account("toor")].into();
        assert_eq!(kept_for(&account("root"), &uids, &exempt), Some(&account("toor")));
        let gone = [account("gone")].into();
        assert_eq!(kept_for(&account("bg"), &uids, &gone), None, "an exempt account that there is not");
    }
}
