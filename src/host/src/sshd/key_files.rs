//! Where each exempt account's keys are by sshd's own configuration, `Match` blocks included, and that written down again for
//! our drop-in.
//!
//! A block that holds for some addresses only goes on holding for those only. What is written is compared with what sshd
//! says before it is put in place: it must never take a key from an exempt account, nor have one count from anywhere else.

use std::{collections::BTreeMap, path::Path};

use record::Account;

use super::{
    drop_in::{self, DropInError},
    effective::{Effective, Spec},
    listener::Invocation,
    probe::Probe,
    scan::{Disk, Overlay, Place, Scan, scan},
    syntax,
};
use crate::readiness::probes;

/// Where each exempt account's keys are without the drop-in.
pub type ExemptKeyFiles = BTreeMap<Account, KeyFiles>;

/// Where one account's keys are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyFiles {
    /// The patterns where no block says otherwise.
    pub usual: Vec<String>,
    /// What blocks say that hold for some of its logins only; the first that holds decides.
    pub in_blocks: Vec<InBlock>,
}

/// What a block says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InBlock {
    /// Its conditions besides the account, as a `Match` line has them.
    conditions: String,
    /// The patterns.
    patterns: Vec<String>,
    /// Where it says so.
    place: Place,
}

impl KeyFiles {
    /// Every pattern.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.usual.iter().chain(self.in_blocks.iter().flat_map(|block| &block.patterns))
    }

    /// These as the drop-in has them.
    pub(super) fn lines(&self, account: &Account) -> Result<String, DropInError> {
        let mut text = String::new();
        let blocks = self.in_blocks.iter().map(|block| (format!(" {}", block.conditions), &block.patterns));
        for (conditions, patterns) in blocks.chain([(String::new(), &self.usual)]) {
            let quoted = patterns.iter().map(|pattern| carried(account, pattern)).collect::<Result<Vec<_>, _>>()?;
            let quoted = if quoted.is_empty() { "none".to_owned() } else { quoted.join(" ") };
            text.push_str(&format!("Match User {account}{conditions}\n    AuthorizedKeysFile {quoted}\n"));
        }
        Ok(text)
    }
}

fn carried(account: &Account, pattern: &str) -> Result<String, DropInError> {
    let odd = || DropInError::OddKeyFile { account: account.clone(), pattern: pattern.to_owned() };
    match pattern.contains(['"', '\'', '\\', '#']) {
        true => Err(odd()),
        false => syntax::quote(pattern).ok_or_else(odd),
    }
}

/// Where sshd would look for each exempt account's keys without the drop-in.
///
/// # Errors
/// When sshd cannot be asked, or an account's name cannot be written down.
pub fn exempt_key_files(sshd: &Invocation, exempt: &[Account]) -> Result<ExemptKeyFiles, DropInError> {
    if exempt.is_empty() {
        return Ok(ExemptKeyFiles::new());
    }
    let probe = Probe::without_drop_in(sshd)?;
    let overlay = Overlay { base: Disk, path: drop_in::PATH.into(), content: None };
    let scan = scan(&overlay, &sshd.config_file);
    let of = |account: &Account| {
        drop_in::check_name(account)?;
        // Three that no block means: what two of them have is the usual.
        let found = Spec::from_nowhere(account.as_str()).map(|spec| probe.effective(&spec));
        let [one, other, third] = found.map(|found| found.map(|effective| named(&effective)));
        let (one, other, third) = (one?, other?, third?);
        let usual = if one == other || one == third { one } else { other };
        Ok((account.clone(), KeyFiles { usual, in_blocks: in_blocks(&scan, account.as_str())? }))
    };
    exempt.iter().map(of).collect()
}

/// What `Match` blocks say that may hold for this account, in order, up to one that holds for all of its logins.
fn in_blocks(scan: &Scan, account: &str) -> Result<Vec<InBlock>, DropInError> {
    let mut found = Vec::new();
    for setting in scan.of("authorizedkeysfile").filter(|setting| !setting.blocks.is_empty()) {
        if !probes::may_hold_for(scan, &setting.blocks, account) {
            continue;
        }
        let of_block = |block: &usize| &scan.blocks[*block].criteria;
        let others = setting.blocks.iter().flat_map(of_block).filter(|c| !["user", "all"].contains(&c.name.as_str()));
        let condition = |name: &str, value: &str| match value {
            "" => Some(name.to_owned()),
            value => Some(format!("{name} {}", syntax::quote(value)?)),
        };
        let conditions: Option<Vec<String>> = others.map(|one| condition(&one.name, &one.value)).collect();
        let place = setting.place.clone();
        let conditions = conditions.ok_or_else(|| DropInError::Block { place: place.clone() })?.join(" ");
        if conditions.is_empty() {
            break;
        }
        let patterns = setting.args.iter().filter(|file| !file.eq_ignore_ascii_case("none")).cloned().collect();
        found.push(InBlock { conditions, patterns, place });
    }
    Ok(found)
}

fn named(effective: &Effective) -> Vec<String> {
    effective.key_files().into_iter().filter(|file| !file.eq_ignore_ascii_case("none")).collect()
}

/// Whether a drop-in leaves exempt accounts their keys, from wherever a block is about. Asks sshd only about accounts that
/// blocks give other files.
///
/// # Errors
/// The line whose files it does not carry over.
pub(crate) fn check_carried(sshd: &Invocation, files: &ExemptKeyFiles, content: &str) -> Result<(), DropInError> {
    if files.values().all(|files| files.in_blocks.is_empty()) {
        return Ok(());
    }
    let (before, after) = (Probe::without_drop_in(sshd)?, Probe::with_drop_in(sshd, content)?);
    let scan = scan(&Overlay { base: Disk, path: Path::new(drop_in::PATH).into(), content: None }, &sshd.config_file);
    for (account, files) in files {
        let Some(first) = files.in_blocks.first() else { continue };
        for spec in probes::around(&scan, account.as_str()) {
            let [had, has] = [before.effective(&spec)?, after.effective(&spec)?].map(|effective| named(&effective));
            if had != has {
                let other = files.in_blocks.iter().find(|block| block.patterns == had).unwrap_or(first);
                return Err(DropInError::Block { place: other.place.clone() });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<InBlock>, DropInError> {
        let main = Path::new("/nonexistent/sshd_config");
        let overlay = Overlay { base: Disk, path: main.into(), content: Some(text.as_bytes().to_vec()) };
        in_blocks(&scan(&overlay, main), "breakglass")
    }

    #[test]
    fn what_a_block_says_for_some_logins_is_carried_over_with_its_conditions() {
        let text = "AuthorizedKeysFile /etc/usual/%u\nMatch User frank\nAuthorizedKeysFile /etc/franks\n\
            Match Address 10.0.0.0/8,!10.9.0.0/16 User b*,frank\nAuthorizedKeysFile /etc/office/%u .ssh/office\n\
            Match LocalPort 2222\nAuthorizedKeysFile none\nMatch User breakglass\nAuthorizedKeysFile /etc/own\n\
            Match Group wheel\nAuthorizedKeysFile /etc/never\n";
        let files = KeyFiles { usual: vec!["/etc/own".into()], in_blocks: of(text).expect("blocks") };
        assert_eq!(
            files.lines(&"breakglass".parse().expect("a name")).expect("a text"),
            "Match User breakglass address \"10.0.0.0/8,!10.9.0.0/16\"\n    AuthorizedKeysFile /etc/office/%u .ssh/office\n\
             Match User breakglass localport 2222\n    AuthorizedKeysFile none\n\
             Match User breakglass\n    AuthorizedKeysFile /etc/own\n"
        );
        assert_eq!(files.all().collect::<Vec<_>>(), ["/etc/own", "/etc/office/%u", ".ssh/office"]);
        assert_eq!(of("Match all\nAuthorizedKeysFile x\n").expect("none"), []);
    }
}
