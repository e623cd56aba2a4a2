//! `lockdownctl ways-in`: every way in, and the drop-in that closes them.
//!
//! Looking and closing run sshd, so both happen on a thread of their own; what was changed is on record, with who asked,
//! before the answer goes out.

use control::{Answer, Closing, Refusal, RefusalCode, Server, WaysIn, WaysInAnswer};
use lockdown_core::machine::Token;
use lockdown_core::policy::time::Now;
use lockdown_core::policy::ways_in::{CLOSING, NOT_COVERED, Way, servers, warnings};
use lockdown_host::ways_in::{self, CloseError, Closed, Question};
use record::{ArtifactType, Draft};

use super::Asker;
use crate::{
    driver::{
        Driver,
        jobs::{Brought, Kind, look_at_ways},
    },
    trigger::Reason,
};

/// What came of closing ways in, or of opening them again.
#[derive(Debug)]
pub struct ClosedWays {
    undone: bool,
    closed: Closed,
    /// What there is now, as far as that could be told.
    answer: Result<Box<WaysInAnswer>, Refusal>,
}

impl Driver {
    /// Looks, closes or undoes, on a thread of its own.
    pub(super) fn ways_in(&mut self, asked: WaysIn, asker: Asker, token: Token, now: Now) {
        let (question, missing) = (self.core.ways_question(), self.log_is_not_whole());
        self.begin_job(Kind::WaysIn, Some(token), now, move || {
            let done = match asked {
                WaysIn::Look => {
                    let answer = answer(&question, missing).map(|answer| Answer::WaysIn(Box::new(answer)));
                    return Brought::Answer(answer);
                }
                WaysIn::Close => ways_in::close(&question),
                WaysIn::Undo => ways_in::undo(),
            };
            match done {
                Ok(closed) => {
                    let answer = answer(&question, missing).map(Box::new);
                    let outcome = ClosedWays { undone: asked == WaysIn::Undo, closed, answer };
                    Reason::WaysClosed { outcome, asked: Some((asker, token)) }.into()
                }
                Err(error) => Brought::Answer(Err(refused(&error))),
            }
        });
    }

    /// Where an operator had ways closed: keeps that in line with the configuration, which has just come into force. It may
    /// have made another account exempt, or let somebody be given root.
    pub(crate) fn renew_closing(&mut self, now: Now) {
        if !matches!(ways_in::current(), Ok(Some(_))) {
            return;
        }
        let (question, missing) = (self.core.ways_question(), self.log_is_not_whole());
        self.begin_job(Kind::Closing, None, now, move || {
            let closed = match ways_in::close(&question) {
                Ok(closed) if closed.changed => closed,
                Ok(_) => return Brought::Nothing,
                Err(error) => {
                    tracing::error!("{CLOSING} could not be brought in line with the configuration: {error}");
                    return Brought::Nothing;
                }
            };
            let outcome = ClosedWays { undone: false, closed, answer: answer(&question, missing).map(Box::new) };
            Reason::WaysClosed { outcome, asked: None }.into()
        });
    }

    /// Records what was closed or opened again, and answers.
    pub(crate) fn ways_closed(&mut self, outcome: ClosedWays, asked: Option<(Asker, Token)>, now: Now) {
        let (actor, token) = asked.map(|(asker, token)| (asker.actor, token)).unzip();
        let ClosedWays { undone, closed, mut answer } = outcome;
        let mut told = None;
        if closed.changed {
            let (sentence, word) = match &closed.text {
                Some(_) => (format!("ways in were closed: {CLOSING} is in place and sshd has read it"), "closed"),
                None => (format!("{CLOSING} was taken away, and sshd does without it"), "undone"),
            };
            let mut draft =
                Draft::new(ArtifactType::SshdChanged, sentence.clone()).with("ways_in", word).with("path", CLOSING);
            if let Some(text) = closed.text {
                draft = draft
                    .with("lines", text.lines().filter(|l| !l.starts_with('#')).map(str::trim).collect::<Vec<_>>());
            }
            draft.actor = actor;
            self.core.recorder.note(draft);
            self.core.commit(now);
            told = Some(sentence);
        } else if undone {
            told = Some(format!("{CLOSING} is not there: nothing was changed"));
        }
        match &mut answer {
            Ok(answer) => answer.changed.extend(told),
            // What was done was done.
            Err(refusal) => {
                refusal.message = told.into_iter().chain([refusal.message.clone()]).collect::<Vec<_>>().join("; ")
            }
        }
        if let Some(token) = token {
            self.answer_on_record(token, answer.map(Answer::WaysIn), now);
        }
    }
}

fn refused(error: &CloseError) -> Refusal {
    let code = match error {
        CloseError::NoRescue(_)
        | CloseError::Unknown(_)
        | CloseError::DropIn(_)
        | CloseError::Odd(_)
        | CloseError::OtherEffect { .. } => RefusalCode::NotReady,
        CloseError::Write(_) | CloseError::Io(_) | CloseError::Lost(_) | CloseError::Stuck { .. } => {
            RefusalCode::Failed
        }
    };
    let refusal = Refusal::new(code, error.to_string());
    if matches!(error, CloseError::Stuck { .. }) { refusal } else { refusal.hint("sshd's configuration is as it was") }
}

/// What there is now. Every string that came from outside is escaped.
fn answer(question: &Question, missing: Option<String>) -> Result<WaysInAnswer, Refusal> {
    let seen = look_at_ways(question, missing).map_err(|error| {
        let what = format!("the ways in could not be looked at: {error}");
        Refusal::new(RefusalCode::Failed, what).hint("try again; lockdownctl status says more")
    })?;
    let proposal = ways_in::proposal(question);
    let current =
        ways_in::current().map_err(|error| Refusal::new(RefusalCode::Failed, format!("{CLOSING}: {error}")))?;
    let mut notes: Vec<String> = warnings(&seen.observed).iter().map(|text| escaped(text)).collect();
    let text = match proposal {
        Ok(text) => text,
        Err(error) => {
            notes.push(escaped(&format!("what would close the open ways cannot be told: {error}")));
            None
        }
    };
    let server = |(name, listens): (&str, &[String])| Server {
        name: escaped(name),
        listens: listens.iter().map(|at| escaped(at)).collect(),
    };
    Ok(WaysInAnswer {
        mode: if question.enforces { control::Mode::Enforce } else { control::Mode::Observe },
        servers: servers(&seen.observed).into_iter().map(server).collect(),
        ways: seen.ways.iter().map(view).collect(),
        left_off: 0,
        warnings: notes,
        not_covered: NOT_COVERED.map(str::to_owned).to_vec(),
        closing: Closing {
            path: CLOSING.to_owned(),
            installed: text.is_some() && text == current,
            differs: current.is_some() && text != current,
            text,
        },
        changed: Vec::new(),
    })
}

fn escaped(text: &str) -> String {
    record::escape(text.as_bytes())
}

fn view(way: &Way) -> control::Way {
    control::Way {
        kind: way.kind.to_owned(),
        server: escaped(&way.server),
        whom: escaped(&way.whom),
        state: way.state,
        wanted: way.wanted,
        why: escaped(&way.why),
        closes: way.closes.as_deref().map(escaped),
    }
}
