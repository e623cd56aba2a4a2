//! The roster in force and what closes, verified here. The server is asked for it, and not believed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use document::{
    Body, Checked, Envelope, Id, Judge, Kind, MAX_ROSTER_ENVELOPE, Moment, Place, Refusal, Roster, Verdict, Version,
    judge::LOCKDOWN_REFUSES,
};
use record::Stack;

use crate::{failure::Failure, files};

/// The rosters that were seen last: a server that gives an older one is found out.
const FILES: [&str; 2] = ["roster-signed.json", "roster-automatic.json"];

/// What stands.
#[derive(Debug)]
pub(crate) struct Known {
    judge: Judge,
    /// Where what was seen is kept; none where nothing is to be written.
    state: Option<PathBuf>,
    now: Moment,
    refused: Option<String>,
}

impl Known {
    /// What was seen before. Judged is as on a host that has been there for longer than anything that it refuses.
    pub(crate) fn begin(trust: Checked, stack: Stack, state: &Path, keeps: bool, now: Moment) -> Self {
        // Of rosters, and of holds on somebody everywhere, the stack says nothing.
        let place = Place { host: None, stack, people: BTreeMap::new() };
        let mut judge = Judge::begin(trust, place, now.before(2 * LOCKDOWN_REFUSES));
        for file in FILES {
            let kept = files::read(&state.join(file), MAX_ROSTER_ENVELOPE).ok();
            if let Some(envelope) = kept.and_then(|bytes| Envelope::parse(&bytes).ok()) {
                // What the configuration does not bear out any more is left out.
                let _ = judge.judge(&envelope, now);
            }
        }
        Self { judge, state: keeps.then(|| state.to_owned()), now, refused: None }
    }

    /// Whether this is a roster that was seen before.
    pub(crate) fn is_kept(&self, id: Id) -> bool {
        let kept = self.judge.rosters();
        [&kept.signed, &kept.automatic].into_iter().flatten().any(|envelope| envelope.document().id() == id)
    }

    /// What is known, to go by while more is learned. It shares the roster.
    pub(crate) fn judge(&self) -> Judge {
        self.judge.clone()
    }

    /// Takes what a server says that is not kept: rosters first, then what closes.
    ///
    /// # Errors
    /// Its roster is older than one that was seen before, or there are two of one version.
    pub(crate) fn learn(&mut self, envelopes: &[Envelope]) -> Result<(), Failure> {
        let held = self.version();
        let mut newest = None;
        for envelope in envelopes.iter().filter(|one| one.document().kind() == Kind::Roster) {
            match self.judge.judge(envelope, self.now).verdict {
                Verdict::Refused(incident @ Refusal::OtherBytes { .. }) => {
                    return Err(Failure::refused(format!("an incident: {incident}")));
                }
                // Of these the signatures hold: of others the version is nobody's word.
                Verdict::Refused(Refusal::Rollback { .. }) | Verdict::Accepted(_) | Verdict::Known => {
                    newest = newest.max(version_of(envelope));
                }
                Verdict::Refused(refusal) => self.refused = Some(refusal.to_string()),
                Verdict::Waits(wait) => self.refused = Some(wait.to_string()),
            }
        }
        if let Some((held, newest)) = held.zip(newest).filter(|(held, newest)| newest < held) {
            return Err(Failure::refused(format!(
                "the server gives roster {newest}, and roster {held} was seen here before: versions never go back"
            ))
            .but("somebody has set the server back, or withholds the newer one: find out who; publish the newer one again"));
        }
        self.learn_closing(envelopes);
        self.keep()
    }

    /// What waits for another document is offered again while anything changes.
    fn learn_closing(&mut self, envelopes: &[Envelope]) {
        let closes = |one: &&Envelope| matches!(one.document().kind(), Kind::Lockdown | Kind::Lift);
        let mut left: Vec<&Envelope> = envelopes.iter().filter(closes).collect();
        loop {
            let before = left.len();
            left.retain(|envelope| matches!(self.judge.judge(envelope, self.now).verdict, Verdict::Waits(_)));
            if left.is_empty() || left.len() == before {
                return;
            }
        }
    }

    fn keep(&self) -> Result<(), Failure> {
        let Some(state) = &self.state else { return Ok(()) };
        let kept = self.judge.rosters();
        for (file, envelope) in FILES.into_iter().zip([&kept.signed, &kept.automatic]) {
            let path = state.join(file);
            match envelope {
                None if path.exists() => {
                    std::fs::remove_file(&path)
                        .map_err(|error| Failure::refused(format!("{}: {error}", path.display())))?;
                }
                None => {}
                Some(envelope) => {
                    let text = envelope.to_json();
                    if files::read(&path, MAX_ROSTER_ENVELOPE).ok().as_deref() != Some(text.as_bytes()) {
                        files::replace(&path, text.as_bytes())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The roster in force.
    pub(crate) fn roster(&self) -> Result<&Roster, Failure> {
        self.judge.roster().ok_or_else(|| match &self.refused {
            Some(why) => Failure::refused(format!("the server's roster is not taken: {why}"))
                .but("[[stack.roster.key]] in the configuration has to be the same as on the hosts"),
            None => Failure::refused("there is no roster yet").but("lockdown roster init, sign, publish"),
        })
    }

    fn version(&self) -> Option<Version> {
        self.judge.roster().map(|roster| roster.version)
    }

    /// The holds that stand on one person everywhere, by whom they hold, in lower case.
    pub(crate) fn standing(&self) -> BTreeMap<String, Id> {
        let holds = self.judge.state().holds().filter(|(_, closed)| closed.this_host && closed.stack.is_any());
        let person = |(id, closed): (&Id, &document::judge::Closed)| {
            closed.person.as_ref().map(|person| (person.as_str().to_ascii_lowercase(), *id))
        };
        holds.filter_map(person).collect()
    }

    /// How many holds stand, whosever.
    pub(crate) fn holds(&self) -> usize {
        self.judge.state().holds().count()
    }

    /// The lockdowns that were lifted lately.
    pub(crate) fn lifted(&self) -> BTreeSet<Id> {
        let covering = self.judge.state().covering(self.now);
        covering.filter(|(_, closed)| closed.lifted.is_some()).map(|(id, _)| *id).collect()
    }

    /// Whether a host would take it.
    pub(crate) fn would_take(&self, envelope: &Envelope) -> Result<(), Failure> {
        taken(&self.judge.clone().judge(envelope, self.now).verdict)
    }

    /// Takes one of our own, as a host does.
    pub(crate) fn take(&mut self, envelope: &Envelope) -> Result<(), Failure> {
        taken(&self.judge.judge(envelope, self.now).verdict)?;
        self.keep()
    }
}

fn taken(verdict: &Verdict) -> Result<(), Failure> {
    match verdict {
        Verdict::Accepted(_) | Verdict::Known => Ok(()),
        Verdict::Refused(refusal) => Err(Failure::refused(format!("no host would take it: {refusal}"))),
        Verdict::Waits(wait) => Err(Failure::refused(format!("no host would take it now: {wait}"))),
    }
}

fn version_of(envelope: &Envelope) -> Option<Version> {
    match envelope.document().body() {
        Body::Roster(roster) => Some(roster.version),
        _ => None,
    }
}
