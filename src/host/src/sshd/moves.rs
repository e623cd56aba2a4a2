//! Whether an sshd would listen elsewhere once it reads its configuration again: somebody may have edited that and not had it read
//! yet. What a SIGHUP of ours then brings about is not ours to cause: sshd that can listen nowhere ends.

use std::collections::BTreeSet;

use super::{
    drop_in::DropInError,
    effective::{Spec, effective},
    listener::{Listener, is_started_on_demand},
};
use crate::listening;

/// Whether a listener goes on listening wherever it does now.
///
/// # Errors
/// [`DropInError::Moves`]; or sshd cannot be asked.
pub(super) fn stays(listener: &Listener) -> Result<(), DropInError> {
    // One that systemd gave its sockets has those again.
    let Some(process) = listener.process.filter(|_| !is_started_on_demand()) else { return Ok(()) };
    let now: BTreeSet<String> = listening::addresses(process.pid).into_iter().filter(|at| is_tcp(at)).collect();
    let settings = effective(&listener.invocation, &Spec::of_anybody())?;
    let then: BTreeSet<String> = settings.all("listenaddress").map(without_zone).collect();
    // What is added and cannot be had, sshd does without.
    if now.is_subset(&then) {
        return Ok(());
    }
    let list = |at: &BTreeSet<String>| at.iter().cloned().collect::<Vec<_>>().join(" and ");
    Err(DropInError::Moves { sshd: listener.title(), now: list(&now), then: list(&then) })
}

fn is_tcp(address: &str) -> bool {
    !address.starts_with('/') && !address.starts_with('@')
}

/// The kernel's tables name no zone: `[fe80::1%eth0]:22`.
fn without_zone(address: &str) -> String {
    match (address.split_once('%'), address.split_once(']')) {
        (Some((host, _)), Some((_, port))) => format!("{host}]{port}"),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_as_the_kernel_has_them() {
        for (printed, compared) in
            [("[::]:22", "[::]:22"), ("0.0.0.0:2222", "0.0.0.0:2222"), ("[fe80::1%eth0]:22", "[fe80::1]:22")]
        {
            assert_eq!(without_zone(printed), compared);
        }
        assert!(is_tcp("[::]:22") && !is_tcp("/run/x") && !is_tcp("@x"));
    }
}
