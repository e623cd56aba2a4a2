//! `lockdownctl enforce --for`: tries enforce out.

use std::time::Duration;

use control::{Enforce, Refusal, RefusalCode};
use lockdown_core::machine::{Event, Token};
use lockdown_core::policy::time::{Deadline, Now};

use super::Asker;
use crate::driver::Driver;

/// The longest trial of enforce.
const MAX_TRIAL: Duration = Duration::from_secs(86_400);

impl Driver {
    pub(super) fn try_enforce(&mut self, asked: &Enforce, asker: Asker, token: Token, now: Now) {
        let span = Duration::from_secs(asked.seconds);
        if span > MAX_TRIAL {
            let most = control::format_duration(MAX_TRIAL);
            return self.answer(
                token,
                Err(Refusal::new(RefusalCode::BadTime, "that is no trial any more")
                    .hint(format!("try at most {most}; set mode = \"enforce\" in the configuration to make it last"))),
            );
        }
        if self.core.config.mode == control::Mode::Enforce {
            return self.answer(
                token,
                Err(Refusal::new(RefusalCode::NothingToDo, "the configuration says enforce already")
                    .hint("lockdownctl status shows whether it is in force")),
            );
        }
        if let Err(refusal) = self.core.state_is_read() {
            return self.answer(token, Err(refusal));
        }
        // Whoever tries enforce out must not be cut off by that: the session they ask from is theirs.
        self.step(Event::FindLogins, now);
        if let Some(id) = self.session_asking(&asker) {
            self.core.sessions.change(&id, |session| session.operators_own = true);
        }
        let until = Deadline::after(span, now);
        self.step(Event::Trial { until, actor: asker.actor, token }, now);
    }
}
