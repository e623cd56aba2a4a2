//! One fixed word for each answer, for records and programs; the sentences are for people and may change.

use super::{Ended, Refusal, Wait};

macro_rules! words {
    ($type:ident: $($variant:ident => $word:literal),* $(,)?) => {
        impl $type {
            /// Every word that [`Self::word`] may give.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The fixed word for it.
            #[must_use]
            pub fn word(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $word),*
                }
            }
        }
    };
}

words! { Wait:
    NoRoster => "no_roster",
    RosterBehind => "roster_behind",
    RosterExpired => "roster_expired",
    FromTheFuture => "from_the_future",
    HoldUnknown => "hold_unknown",
    LockdownUnknown => "lockdown_unknown",
    SignerUnknown => "signer_unknown",
    NotOfSource => "not_of_source",
    Stacks => "stacks",
}

words! { Refusal:
    NotForHosts => "not_for_hosts",
    Organization => "organization",
    Stack => "stack",
    Host => "host",
    HostIsNewer => "host_is_newer",
    BeforeState => "before_state",
    BeforeLocalLockdown => "before_local_lockdown",
    TooLate => "too_late",
    Over => "over",
    Forgotten => "forgotten",
    Full => "full",
    Revoked => "revoked",
    LockedDown => "locked_down",
    Held => "held",
    TooManyHolds => "too_many_holds",
    TooManyOf => "too_many_of_source",
    UnknownPerson => "unknown_person",
    Account => "account",
    NoKeys => "no_keys",
    NoHardware => "no_hardware",
    NoRule => "no_rule",
    TooLong => "too_long",
    Approvals => "approvals",
    NotSigned => "not_signed",
    Threshold => "threshold",
    Automatic => "automatic",
    BelowMinimum => "below_minimum",
    Rollback => "rollback",
    OtherBytes => "other_bytes",
    Feeder => "feeder",
}

words! { Ended:
    Revoked => "revoked",
    LockedDown => "locked_down",
    Held => "held",
    TooManyHolds => "too_many_holds",
    TooManyOf => "too_many_of_source",
    NoRoster => "no_roster",
    Person => "person",
    Account => "account",
    Keys => "keys",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_answers_share_a_word() {
        for words in [Wait::WORDS, Refusal::WORDS, Ended::WORDS] {
            assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
        }
    }
}
