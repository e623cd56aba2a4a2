//! The answer to an operator.
//!
//! Who may ask is decided here once for every request; each request is then one function. What changes something is on
//! record, with who asked, before the answer goes out.

mod break_glass;
pub(crate) mod look;
mod peer;
mod quarantine;
mod shut_out;
pub(crate) mod sources;
mod trial;
mod ways_in;

use control::{Answer, Refusal, RefusalCode, Request, Response};
use document::Envelope;
use lockdown_core::{
    machine::{Event, Token, Waiting, checks::Waits},
    policy::time::Now,
};
use lockdown_host::peer::Peer;

pub use self::{peer::Asker, quarantine::RestoreOutcome, ways_in::ClosedWays};
use crate::{driver::Driver, trigger::Reply};

impl Driver {
    /// Answers one request; a few are answered later, by a thread that reads homes.
    pub fn answer_operator(&mut self, request: Request, peer: Peer, reply: Reply, now: Now) {
        let token = self.held.reply(reply);
        if let Err(error) = request.check() {
            return self.answer(token, Err(Refusal::new(RefusalCode::Malformed, error.to_string())));
        }
        let asker = match self.who_asks(peer, now) {
            Ok(asker) => asker,
            Err(refusal) => return self.answer(token, Err(refusal)),
        };
        let answer: Response = match request {
            Request::BreakGlassTest => return self.try_break_glass(token, now),
            Request::Plan => return self.step(Event::Looks(Waits::Plan(token)), now),
            Request::QuarantineRestore(item) => return self.restore(item, asker, token, now),
            Request::WaysIn(asked) => return self.ways_in(asked, asker, token, now),
            Request::Status => {
                // How far it is acknowledged is told as of now, not as of the last sweep.
                self.heed_shipper(now);
                return self.step(Event::Looks(Waits::Status(token)), now);
            }
            Request::Allow(allow) => {
                return self.step(Event::Allow { token, asked: Box::new(allow), asker: asker.core() }, now);
            }
            Request::Revoke(asked) => {
                return self.step(Event::Revoke { token, asked, asker: asker.core() }, now);
            }
            Request::Lockdown(asked) => {
                return self.step(Event::Lockdown { token, asked, asker: asker.core() }, now);
            }
            Request::Apply(apply) if asker.actor.uid == Some(0) => return self.apply(&apply, token, now),
            Request::Apply(_) => Err(Refusal::new(RefusalCode::NotPermitted, "only root may bring a document")
                .hint("sudo lockdownctl apply FILE")),
            Request::Enforce(enforce) => return self.try_enforce(&enforce, asker, token, now),
            Request::Reload if asker.actor.uid == Some(0) => return self.step(Event::Reload(Some(token)), now),
            Request::Reload => {
                Err(Refusal::new(RefusalCode::NotPermitted, "only root may have the configuration read"))
            }
            Request::QuarantineNow(kept) => {
                let asked = Event::QuarantineNow { token, account: kept.account, asker: asker.core() };
                return self.step(asked, now);
            }
            Request::Grants(grants) => Ok(Answer::Grants(self.list_grants(&grants, now))),
            Request::Sessions => Ok(Answer::Sessions(self.list_sessions())),
            Request::People => Ok(Answer::People(self.list_people(now))),
            Request::Records(records) => {
                return self.core.answer_on_record(Waiting::Records(token, records), now);
            }
            Request::QuarantineList => return self.list_quarantine(token, now),
            Request::QuarantineShow(item) => return self.show_quarantined(item, token, now),
        };
        self.answer(token, answer);
    }

    /// Takes a document that root brings.
    fn apply(&mut self, apply: &control::Apply, token: Token, now: Now) {
        match Envelope::parse(apply.envelope.as_bytes()) {
            Ok(envelope) => self.step(Event::Apply { token, envelope: Box::new(envelope) }, now),
            Err(error) => {
                let refusal = Refusal::new(RefusalCode::Malformed, format!("it is no signed document: {error}"));
                self.answer(
                    token,
                    Err(refusal.hint("give a file that `lockdown … --out FILE` wrote; DOCUMENTS.md has the format")),
                );
            }
        }
    }
}
