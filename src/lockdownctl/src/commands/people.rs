//! `people`: who exists, with their keys and the accounts they may be given.

use control::{Answer, PeopleAnswer, PersonView, Request};

use super::{Context, left_off};
use crate::{
    ask::Failure,
    output::{Done, show},
    paint::Paint,
    table::Table,
};

/// Lists them.
pub(crate) fn run(context: &Context<'_>) -> Result<Done, Failure> {
    match context.ask(&Request::People)? {
        Answer::People(answer) => Ok(show(context.json, &answer, |answer| words(answer, context.paint))),
        _ => Err(Failure::mismatch()),
    }
}

fn words(answer: &PeopleAnswer, paint: Paint) -> String {
    if answer.people.is_empty() {
        return "nobody: add [[person]] to /etc/lockdownd/config.toml or a file in /etc/lockdownd/conf.d\n".to_owned();
    }
    let mut table = Table::new(&["PERSON", "ACCOUNTS", "GRANTS", "FROM", "KEY"]);
    for person in &answer.people {
        let grants: Vec<String> = person.grants.iter().map(ToString::to_string).collect();
        let grants = if grants.is_empty() { "-".to_owned() } else { grants.join(" ") };
        let from = format!("{}:{}", person.file, person.line);
        let name = if person.operator { format!("{} (operator)", person.name) } else { person.name.to_string() };
        let mut first = [name, accounts(person), grants, from];
        for key in &person.keys {
            let [name, accounts, grants, from] = std::mem::take(&mut first);
            table.row([name, accounts, grants, from, format!("{} {}", key.algorithm, key.fingerprint)]);
        }
        if person.keys.is_empty() {
            let [name, accounts, grants, from] = first;
            table.row([name, accounts, grants, from, "no key".to_owned()]);
        }
    }
    table.render_in(paint) + &left_off(answer.left_off)
}

fn accounts(person: &PersonView) -> String {
    let word = |account| {
        let missing = person.missing_accounts.contains(account);
        let required = person.required.iter().find(|required| required.account == *account);
        let required = required.map(|required| match required.fits {
            true => required.required.join(", "),
            false => format!("{}: no key fits", required.required.join(", ")),
        });
        let missing = missing.then(|| "not on this host".to_owned());
        let said: Vec<String> = missing.into_iter().chain(required).collect();
        if said.is_empty() { account.to_string() } else { format!("{account} ({})", said.join("; ")) }
    };
    let words: Vec<String> = person.accounts.iter().map(word).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use control::{KeyView, RequiredView};

    use super::*;

    #[test]
    fn each_key_has_a_line_and_a_missing_account_is_marked() {
        let key = |letter: &str| KeyView {
            fingerprint: format!("SHA256:{}", letter.repeat(43)).parse().unwrap(),
            algorithm: "ssh-ed25519".to_owned(),
        };
        let frank = PersonView {
            name: "frank".parse().unwrap(),
            keys: vec![key("A"), key("B")],
            accounts: vec!["ubuntu".parse().unwrap(), "deploy".parse().unwrap()],
            missing_accounts: vec!["deploy".parse().unwrap()],
            required: vec![RequiredView {
                account: "ubuntu".parse().unwrap(),
                required: vec!["hardware".to_owned()],
                fits: false,
            }],
            operator: true,
            grants: Vec::new(),
            file: "/etc/lockdownd/config.toml".to_owned(),
            line: 12,
        };
        let ann = PersonView {
            name: "ann".parse().unwrap(),
            keys: Vec::new(),
            accounts: Vec::new(),
            missing_accounts: Vec::new(),
            required: Vec::new(),
            operator: false,
            grants: vec!["g-0123456789abcdef".parse().unwrap()],
            file: "/etc/lockdownd/conf.d/a.toml".to_owned(),
            line: 3,
        };
        assert_eq!(
            words(&PeopleAnswer { people: vec![frank, ann], left_off: 0 }, Paint::NONE),
            format!(
                "\
PERSON            ACCOUNTS                                                  GRANTS              FROM                            KEY
frank (operator)  ubuntu (hardware: no key fits) deploy (not on this host)  -                   /etc/lockdownd/config.toml:12   ssh-ed25519 SHA256:{}
                                                                                                                                ssh-ed25519 SHA256:{}
ann               none                                                      g-0123456789abcdef  /etc/lockdownd/conf.d/a.toml:3  no key
",
                "A".repeat(43),
                "B".repeat(43)
            )
        );
    }
}
