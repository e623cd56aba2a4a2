//! A login asks: which connection it is about, and who made it, is found out here; what follows, the core decides.
//!
//! A login from this very host is looked into beside the main thread, before it is judged: whose process made the connection.

use std::net::SocketAddr;

use control::gate::{Answer, Question, Step};
use lockdown_core::{
    machine::{Event, Holder, LoginAsked, Maker},
    policy::{address, login::NotFound, time::Now},
};
use lockdown_host::{
    client::{self, Ends},
    processes::{self, Process, ProcessId},
};
use record::Account;
use tokio::sync::oneshot;

use crate::{
    driver::{Driver, jobs::Kind},
    trigger::Reason,
};

/// How many logins from this host may be looked into at a time. A further one is refused, as if its maker was not found.
const MAX_LOOKS: usize = 64;

impl Driver {
    /// A login asks: it is answered at once, or, where it comes from this host, once its maker has been looked for. The gate's
    /// own patience bounds that: without an answer it refuses.
    pub(crate) fn login_asked(&mut self, question: Question, gate: u32, answer: oneshot::Sender<Answer>, now: Now) {
        let found = match self.comes_from_here(&question, gate) {
            Some((monitor, ends))
                if self.core.jobs.count(Kind::Client) < MAX_LOOKS && self.core.jobs.may_begin(Kind::Client) =>
            {
                return self.begin_job(Kind::Client, None, now, move || {
                    let maker = client::maker(monitor, ends);
                    Reason::ClientFound { question, gate, answer, maker }.into()
                });
            }
            Some(_) => Some(Err(NotFound::TooMany)),
            None => None,
        };
        self.answer_login(question, gate, found, answer, now);
    }

    /// The connection that asks, where it comes from this host and the answer depends on who made it. Break-glass waits for
    /// nothing.
    fn comes_from_here(&self, question: &Question, gate: u32) -> Option<(ProcessId, Ends)> {
        let account: Account = question.account.parse().ok()?;
        if question.step == Step::Account || self.core.config.accounts.exempt.contains(&account) {
            return None;
        }
        let ends = ends_of(question.connection.as_deref()?)?;
        let monitor = connection_of(gate)?;
        client::is_local(monitor, ends).then_some((monitor, ends))
    }

    /// Answers the gate: its process id tells which connection it asks about. `found` is who made the connection on this host,
    /// `None` for one from elsewhere.
    pub(crate) fn answer_login(
        &mut self,
        question: Question,
        gate: u32,
        found: Option<client::Found>,
        to: oneshot::Sender<Answer>,
        now: Now,
    ) {
        let made_here = found.map(|found| found.map(|maker| self.maker(maker)));
        let gate_waits = i32::try_from(gate).ok().and_then(processes::identity).is_some();
        let (monitor, token) = (connection_of(gate), self.held.gate(to));
        let asked = LoginAsked { question, token, monitor, gate_waits, made_here };
        self.step(Event::Login(Box::new(asked)), now);
    }

    fn maker(&self, maker: client::Maker) -> Maker {
        let holder = |holder: client::Holder| Holder {
            left_by: holder.process.audit_session.and_then(|audit| self.core.traces.grant_of(audit)).cloned(),
            account: holder.process.login_uid.and_then(|uid| self.world.account_by_uid(uid)),
            above: holder.above,
            beside: holder.beside,
        };
        match maker {
            client::Maker::UnseenRoot => Maker::UnseenRoot,
            client::Maker::Held(holders) => Maker::Held(holders.into_iter().map(holder).collect()),
        }
    }
}

/// The process that stands for the connection: the gate's parent, which waits for the gate and so cannot be another.
fn connection_of(gate: u32) -> Option<ProcessId> {
    let parent = Process::read(i32::try_from(gate).ok()?)?.ppid;
    if parent <= 1 { None } else { processes::identity(parent) }
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
