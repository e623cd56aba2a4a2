//! What a run has to say.

use document::{Id, Version};
use terminal::plain;

use crate::{aws::Calls, plan::ToHold, sync};

/// The most notes that are shown.
const MAX_NOTES: usize = 200;

/// What a run found and did.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// How many users are in the groups.
    pub(crate) users: usize,
    /// Which calls of AWS it took.
    pub(crate) calls: Calls,
    /// Who was held, and by which document.
    pub(crate) holds: Vec<(ToHold, Id)>,
    /// What the feeder's own key changed.
    pub(crate) automatic: Option<Vec<String>>,
    /// Which roster that is, once the server has it.
    pub(crate) signed: Option<Version>,
    /// What people have to sign.
    pub(crate) proposed: Option<Vec<String>>,
    /// What somebody should know.
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// In lines.
    pub(crate) fn words(&self, dry: bool, state: &std::path::Path) -> String {
        let calls: Vec<String> = self.calls.iter().map(|(action, count)| format!("{action} {count}")).collect();
        let total: u64 = self.calls.values().sum();
        let mut lines = vec![format!("{} users in IAM's groups; {total} calls: {}", self.users, calls.join(", "))];
        let held = if dry { "would be held" } else { "held" };
        lines.extend(self.holds.iter().map(|(one, id)| format!("{held}: {}", sync::held_line(one, id))));
        if let Some(changes) = &self.automatic {
            let what = if dry { "a roster would be signed by this key:" } else { "a roster was signed by this key:" };
            lines.push(what.to_owned());
            lines.extend(changes.iter().map(|line| format!("  {line}")));
        }
        if let Some(changes) = &self.proposed {
            let path = state.join(sync::PROPOSAL);
            lines.push(format!("a roster {} proposed, for people to sign:", if dry { "would be" } else { "is" }));
            lines.extend(changes.iter().map(|line| format!("  {line}")));
            if !dry {
                lines.push(format!("  lockdown roster diff {0}; lockdown roster sign {0}", path.display()));
            }
        }
        if self.holds.is_empty() && self.automatic.is_none() && self.proposed.is_none() {
            lines.push("the roster is as IAM has it".to_owned());
        }
        lines.extend(self.notes.iter().take(MAX_NOTES).map(|note| format!("note: {note}")));
        if self.notes.len() > MAX_NOTES {
            lines.push(format!("note: {} more", self.notes.len() - MAX_NOTES));
        }
        lines.iter().map(|line| format!("{}\n", plain(line))).collect()
    }
}
