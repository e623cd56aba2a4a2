//! Grants and sessions as an operator sees them.

use control::{EndView, EndWhy, GrantState, GrantView, Origin as OriginView, SessionKind, SessionView};

use crate::{
    policy::{
        grant::{EndCause, Grant, Origin, Standing},
        time::Now,
    },
    sessions::{Session, Standing as S},
};

/// How many names a refusal lists.
pub const MAX_LISTED: usize = 50;

/// A grant as an operator sees it.
#[must_use]
pub fn grant_view(grant: &Grant, now: Now) -> GrantView {
    let state = match grant.standing(now) {
        Standing::Waiting => GrantState::Waiting,
        Standing::Active => GrantState::Active,
        Standing::Over => GrantState::Ended,
    };
    let origin = match &grant.origin {
        Origin::Operator { actor } => OriginView::Operator(actor.clone()),
        Origin::Config { place, .. } => {
            let (file, line) = file_and_line(place);
            OriginView::Config { file: file.to_owned(), line }
        }
        Origin::Document(from) => {
            OriginView::Document { document: from.document.to_string(), approvers: from.approvers.clone() }
        }
    };
    GrantView {
        id: grant.id.clone(),
        person: grant.person.clone(),
        account: grant.account.clone(),
        state,
        created_at: grant.created_at,
        starts_at: grant.starts_at,
        expires_at: grant.ends.wall,
        from: grant.from.clone(),
        reason: Some(grant.reason.clone()).filter(|reason| !reason.is_empty()),
        origin,
        end: grant.end.as_ref().map(|end| EndView {
            why: why(end.cause),
            at: end.at,
            reason: Some(end.reason.clone()),
        }),
    }
}

/// A place as the configuration prints it, `FILE:LINE:COLUMN` or `FILE`, taken apart.
fn file_and_line(place: &str) -> (&str, Option<u64>) {
    let number = |text: &str| text.parse::<u64>().ok();
    match place.rsplitn(3, ':').collect::<Vec<_>>()[..] {
        [column, line, file] if number(column).is_some() && number(line).is_some() => (file, number(line)),
        _ => (place, None),
    }
}

fn why(cause: EndCause) -> EndWhy {
    match cause {
        EndCause::Expired => EndWhy::Expired,
        EndCause::Revoked => EndWhy::Revoked,
        EndCause::Lockdown => EndWhy::Lockdown,
        EndCause::Config => EndWhy::Config,
        EndCause::Identity => EndWhy::Identity,
    }
}

/// A session as an operator sees it.
#[must_use]
pub fn session_view(session: &Session, grant: Option<&Grant>) -> SessionView {
    SessionView {
        id: session.id.clone(),
        kind: match session.standing {
            S::Granted { .. } => SessionKind::Granted,
            S::Emergency => SessionKind::Emergency,
            S::Unbacked { .. } => SessionKind::Observed,
            S::Unattributed => SessionKind::Unattributed,
        },
        person: session.person().cloned(),
        account: session.account.clone(),
        grant: session.grant().cloned(),
        fingerprint: session.fingerprint().cloned(),
        source: Some(session.source.clone()),
        opened_at: session.opened_at,
        ends_at: grant.map(|grant| grant.ends.wall),
        pid: session.monitor.pid.unsigned_abs(),
        uses: session.uses.words().into_iter().map(str::to_owned).collect(),
        terminals: session.uses.terminal_names(),
        ending: session.ending.as_ref().map(|end| end.reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_apart_as_it_was_put_together() {
        assert_eq!(
            file_and_line("/etc/lockdownd/conf.d/a:1:b.toml:12:3"),
            ("/etc/lockdownd/conf.d/a:1:b.toml", Some(12))
        );
        assert_eq!(file_and_line("/etc/lockdownd/config.toml"), ("/etc/lockdownd/config.toml", None));
        assert_eq!(file_and_line("a:b:c"), ("a:b:c", None));
    }
}
