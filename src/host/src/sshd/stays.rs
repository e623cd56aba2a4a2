//! Whether an sshd that reads its configuration again goes on listening where it does.
//!
//! Whoever has it read our drop-in has it read all else that was changed since: a port or an address that somebody is only
//! preparing, say. It must never stop listening where people, or whoever comes to the rescue, come from.

use std::net::SocketAddr;

use super::{
    drop_in::DropInError,
    effective::{Effective, Spec, effective},
    listener::{Listener, is_started_on_demand},
};
use crate::listening;

/// Checks one listener, before it is told to.
///
/// # Errors
/// Where it would stop listening, or sshd refuses its configuration.
pub(crate) fn check_stays(listener: &Listener) -> Result<(), DropInError> {
    let Some(process) = listener.process.filter(|_| !is_started_on_demand()) else { return Ok(()) };
    let now: Vec<SocketAddr> = listening::addresses(process.pid).iter().filter_map(|at| at.parse().ok()).collect();
    let then = effective(&listener.invocation, &Spec::of_anybody())?;
    match lost(&now, &then) {
        None => Ok(()),
        Some(at) => Err(DropInError::Moves { listener: listener.title(), at: at.to_string() }),
    }
}

/// The first place where it listens that its configuration does not name.
fn lost(now: &[SocketAddr], then: &Effective) -> Option<SocketAddr> {
    let named = then.all("listenaddress").filter_map(|at| at.split(' ').next()?.parse().ok());
    let named: Vec<SocketAddr> = named.collect();
    // An sshd that tells none is not judged.
    now.iter().copied().find(|at| !named.is_empty() && !named.contains(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_or_address_that_would_be_lost_is_told() {
        let now = ["0.0.0.0:22", "[::]:22"].map(|at| at.parse().expect("an address"));
        let after = |text: &str| lost(&now, &Effective::parse(text)).map(|at| at.to_string());
        assert_eq!(after("port 22\nlistenaddress 0.0.0.0:22\nlistenaddress [::]:22\n"), None);
        assert_eq!(
            after("listenaddress 0.0.0.0:22\nlistenaddress [::]:22\nlistenaddress 0.0.0.0:2222\n"),
            None,
            "one more"
        );
        assert_eq!(after("listenaddress 0.0.0.0:2222\nlistenaddress [::]:2222\n").as_deref(), Some("0.0.0.0:22"));
        assert_eq!(after("listenaddress 10.9.9.9:22 rdomain x\n").as_deref(), Some("0.0.0.0:22"));
        assert_eq!(after("port 22\n"), None);
    }
}
