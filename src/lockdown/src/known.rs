//! What is known of a stack: the roster, verified here, and what closes. The server is asked for it, and not believed. No I/O.

use std::collections::BTreeMap;

use document::{
    Accepted, Body, Checked, Document, Envelope, Judge, Kind, Lockdown, Moment, Place, Refusal, Roster, Verdict,
    Version, Wait,
    judge::{Kept, LOCKDOWN_REFUSES},
};
use document::{Id, Signer, Who};
use record::Stack;

use crate::failure::Failure;

/// The code of a failure where no roster is known.
pub(crate) const NO_ROSTER: &str = "no_roster";

/// A roster, and what stands by the signatures of those whom it names.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    judge: Judge,
    lockdowns: BTreeMap<Id, Closing>,
    /// Why rosters that were given are not taken, the last one.
    refused: Option<String>,
}

/// A lockdown, and who signed it.
#[derive(Debug, Clone)]
pub(crate) struct Closing {
    pub(crate) lockdown: Lockdown,
    pub(crate) signers: Vec<Signer>,
}

impl Closing {
    /// Whether an approver, or a key for rosters, signed it, and not a feeder alone.
    pub(crate) fn is_by_people(&self) -> bool {
        self.signers.iter().any(|signer| matches!(signer.who, Who::Approver(_) | Who::RosterKey(_)))
    }
}

impl Known {
    /// Nothing yet. Judged is as on a host that has been there for longer than anything that it refuses.
    pub(crate) fn begin(trust: Checked, stack: Stack, now: Moment) -> Self {
        let place = Place { host: None, stack, people: BTreeMap::new() };
        let judge = Judge::begin(trust, place, now.before(2 * LOCKDOWN_REFUSES));
        Self { judge, lockdowns: BTreeMap::new(), refused: None }
    }

    /// Takes up rosters that were seen before. What does not hold any more is left out.
    pub(crate) fn remember(&mut self, rosters: &[Envelope], now: Moment) {
        for envelope in rosters {
            let _ = self.judge.judge(envelope, now);
        }
    }

    /// Takes what a server says: rosters first, then what closes.
    ///
    /// # Errors
    /// Its roster is older than one that was seen before, or there are two of one version.
    pub(crate) fn learn(&mut self, envelopes: &[Envelope], now: Moment) -> Result<(), Failure> {
        let held = self.version();
        let rosters = envelopes.iter().filter(|one| one.document().kind() == Kind::Roster);
        let mut newest = None;
        for envelope in rosters {
            match self.judge.judge(envelope, now).verdict {
                Verdict::Refused(incident @ Refusal::OtherBytes { .. }) => {
                    return Err(Failure::refused(incident.word(), format!("an incident: {incident}")));
                }
                // Of these the signatures hold: of others the version is nobody's word.
                Verdict::Refused(Refusal::Rollback { .. }) | Verdict::Accepted(_) | Verdict::Known => {
                    newest = newest.max(version_of(envelope.document()));
                }
                Verdict::Refused(refusal) => self.refused = Some(refusal.to_string()),
                Verdict::Waits(wait) => self.refused = Some(wait.to_string()),
            }
        }
        if let (Some(held), Some(newest)) = (held, newest)
            && newest < held
        {
            return Err(Failure::refused(
                "rollback",
                format!("the server gives roster {newest}, and roster {held} was seen here before: versions never go back"),
            )
            .but("somebody has set the server back, or withholds the newer one: find out who; publish the newer one again"));
        }
        self.learn_closing(envelopes, now);
        Ok(())
    }

    /// What waits for another document is offered again while anything changes.
    fn learn_closing(&mut self, envelopes: &[Envelope], now: Moment) {
        let closes = |one: &&Envelope| matches!(one.document().kind(), Kind::Lockdown | Kind::Lift | Kind::Revoke);
        let mut left: Vec<&Envelope> = envelopes.iter().filter(closes).collect();
        loop {
            let before = left.len();
            left.retain(|envelope| {
                let judged = self.judge.judge(envelope, now);
                if let (Verdict::Accepted(Accepted::Lockdown { .. }), Body::Lockdown(lockdown)) =
                    (&judged.verdict, envelope.document().body())
                {
                    let closing = Closing { lockdown: lockdown.clone(), signers: judged.signers.clone() };
                    self.lockdowns.insert(judged.id, closing);
                }
                matches!(judged.verdict, Verdict::Waits(_))
            });
            if left.is_empty() || left.len() == before {
                return;
            }
        }
    }

    /// The roster.
    pub(crate) fn roster(&self) -> Result<&Roster, Failure> {
        self.judge.roster().ok_or_else(|| match &self.refused {
            Some(why) => Failure::refused(NO_ROSTER, format!("the server's roster is not taken: {why}"))
                .but("[[stack.roster.key]] in the configuration has to be the same as on the hosts"),
            None => Failure::refused(NO_ROSTER, "there is no roster yet, so nobody can be given anything")
                .but("lockdown roster init, sign, publish"),
        })
    }

    /// The roster, where there is one.
    pub(crate) fn any_roster(&self) -> Option<&Roster> {
        self.judge.roster()
    }

    /// Its version.
    pub(crate) fn version(&self) -> Option<Version> {
        self.judge.roster().map(|roster| roster.version)
    }

    /// The envelopes of the rosters, to be kept.
    pub(crate) fn rosters(&self) -> &Kept {
        self.judge.rosters()
    }

    /// The configuration's word on whom to trust.
    pub(crate) fn trust(&self) -> &Checked {
        self.judge.settings()
    }

    /// What a host would say to this.
    pub(crate) fn verdict(&self, envelope: &Envelope, now: Moment) -> Verdict {
        self.judge.clone().judge(envelope, now).verdict
    }

    /// Whose signatures on this hold, whether or not they count.
    pub(crate) fn signers(&self, envelope: &Envelope, now: Moment) -> Vec<Signer> {
        self.judge.clone().judge(envelope, now).signers
    }

    /// Whether the person whom it is for has asked for it.
    pub(crate) fn is_asked_for(&self, envelope: &Envelope, now: Moment) -> bool {
        self.judge.judge_request(envelope, now).is_ok()
    }

    /// A lockdown by its id.
    pub(crate) fn lockdown(&self, id: Id) -> Option<&Closing> {
        self.lockdowns.get(&id)
    }

    /// All lockdowns that are known, with whether they hold.
    pub(crate) fn lockdowns(&self) -> impl Iterator<Item = (Id, &Closing)> {
        self.lockdowns.iter().map(|(id, closing)| (*id, closing))
    }

    /// The lockdowns that hold, and have not been lifted.
    pub(crate) fn holds(&self) -> impl Iterator<Item = (Id, &Closing)> {
        let standing: std::collections::BTreeSet<Id> = self.judge.state().holds().map(|(id, _)| *id).collect();
        self.lockdowns().filter(move |(id, _)| standing.contains(id))
    }

    /// The lockdowns that still refuse grants from before them.
    pub(crate) fn covering(&self, now: Moment) -> impl Iterator<Item = (Id, &Closing)> {
        let covering: std::collections::BTreeSet<Id> = self.judge.state().covering(now).map(|(id, _)| *id).collect();
        self.lockdowns().filter(move |(id, _)| covering.contains(id))
    }
}

/// The version of a roster.
pub(crate) fn version_of(document: &Document) -> Option<Version> {
    match document.body() {
        Body::Roster(roster) => Some(roster.version),
        _ => None,
    }
}

/// What a host would refuse, or let wait, as a failure.
pub(crate) fn refused(refusal: &Refusal) -> Failure {
    Failure::refused(refusal.word(), format!("no host would take it: {refusal}"))
}

/// The same for what would wait.
pub(crate) fn waits(wait: &Wait) -> Failure {
    Failure::refused(wait.word(), format!("no host would take it now: {wait}"))
}
