//! Logins from this very host: whose process made the connection is looked for beside the main thread, before they are judged.

use std::net::SocketAddr;

use control::gate::{Answer, Question, Step};
use lockdown_core::policy::login::{Behind, NotFound};
use lockdown_core::policy::time::Now;
use lockdown_host::{
    client::{self, Ends, Holder, Maker},
    processes::ProcessId,
};
use record::{Account, Person};
use tokio::sync::oneshot;

use super::{address, connection_of};
use crate::{
    enforce::{Engine, Kind},
    trigger::Reason,
};

/// How many logins from this host may be looked into at a time. A further one is refused, as if its maker was not found.
const MAX_LOOKS: usize = 64;

impl Engine {
    /// A login asks: it is answered at once, or, where it comes from this host, once its maker has been looked for. The gate's
    /// own patience bounds that: without an answer it refuses.
    pub(crate) fn login_asked(&mut self, question: Question, gate: u32, answer: oneshot::Sender<Answer>, now: Now) {
        let found = match self.comes_from_here(&question, gate) {
            Some((monitor, ends)) if self.jobs.count(Kind::Client) < MAX_LOOKS => {
                return self.begin_job(Kind::Client, None, now, move || {
                    let maker = client::maker(monitor, ends);
                    Some(Reason::ClientFound { question, gate, answer, maker })
                });
            }
            Some(_) => Some(Err(NotFound::TooMany)),
            None => None,
        };
        self.answer_login(question, gate, found.as_ref(), answer, now);
    }

    /// The connection that asks, where it comes from this host and the answer depends on who made it. Break-glass waits for
    /// nothing.
    fn comes_from_here(&self, question: &Question, gate: u32) -> Option<(ProcessId, Ends)> {
        let account: Account = question.account.parse().ok()?;
        if question.step == Step::Account || self.config.accounts.exempt.contains(&account) {
            return None;
        }
        let ends = ends_of(question.connection.as_deref()?)?;
        let monitor = connection_of(gate)?;
        client::is_local(monitor, ends).then_some((monitor, ends))
    }

    /// Whose the processes are that made a connection with `person`'s key.
    pub(super) fn all_behind(&self, maker: &Maker, person: &Person) -> Vec<Behind> {
        match maker {
            Maker::UnseenRoot => vec![Behind::NobodyElse],
            Maker::Held(holders) => holders.iter().map(|holder| self.behind(holder, person)).collect(),
        }
    }

    fn behind(&self, holder: &Holder, person: &Person) -> Behind {
        let session = self.sessions.nearest(&holder.above).or_else(|| match self.sessions.all_of(&holder.beside)[..] {
            [only] => Some(only),
            _ => None,
        });
        if let Some(session) = session
            && let Some(of) = session.person()
        {
            return Behind::Person(of.clone(), Some(session.id.clone()));
        }
        let process = &holder.process;
        let left_by = process.audit_session.and_then(|audit| self.traces.grant_of(audit));
        if let Some(grant) = left_by.and_then(|id| self.grants.get(id)) {
            return Behind::Person(grant.person.clone(), None);
        }
        let account = process.login_uid.and_then(|uid| self.world.account_by_uid(uid));
        let may_be_others = |account: &Account| {
            let mut others = self.config.people.iter().filter(|(name, _)| *name != person);
            others.any(|(_, entry)| entry.accounts.contains(account))
        };
        if account.is_some_and(|account| may_be_others(&account)) { Behind::Several } else { Behind::NobodyElse }
    }
}

/// Both ends in `SSH_CONNECTION`.
fn ends_of(connection: &str) -> Option<Ends> {
    let mut words = connection.split(' ');
    let mut end = || -> Option<SocketAddr> {
        let (address, _) = address::parse(words.next()?)?;
        Some((address, words.next()?.parse().ok()?).into())
    };
    let (client, server) = (end()?, end()?);
    Some(Ends { client: (client.ip(), client.port()), server: (server.ip(), server.port()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_read_with_or_without_a_zone() {
        let ends = ends_of("fe80::1%eth0 4711 fe80::2%eth0 22").expect("two ends");
        assert_eq!(ends.client, ("fe80::1".parse().expect("an address"), 4711));
        assert_eq!(ends_of("::ffff:127.0.0.1 4711 127.0.0.1 22").expect("two ends").client.0.to_string(), "127.0.0.1");
        assert_eq!((ends_of("UNKNOWN 65535 UNKNOWN 65535"), ends_of("127.0.0.1 1 127.0.0.1")), (None, None));
    }
}
