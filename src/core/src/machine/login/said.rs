//! What sshd has said of a login, by PAM's environment.

use control::gate::Question;
use record::{Draft, Fingerprint, Source};

use crate::{
    keys::{auth_info, key::Key},
    policy::address,
};

/// The one plain key that sshd has verified, where it names one.
#[must_use]
pub fn key_of(question: &Question) -> Option<Fingerprint> {
    let keys = auth_info::parse(question.auth_info.as_deref()?).plain_keys().ok()?;
    keys.first().map(Key::fingerprint)
}

/// The names of the methods that succeeded, without the keys.
#[must_use]
pub fn methods(question: &Question) -> Vec<String> {
    let lines = question.auth_info.as_deref().unwrap_or_default().lines();
    lines.take(8).map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

/// Where the connection comes from, as sshd put it into PAM's environment before any user's file could.
#[must_use]
pub fn source_of(question: &Question) -> Source {
    let mut words = client_of(question).split(' ');
    let client = words.next().unwrap_or_default();
    if client == address::NONE {
        return Source { address: None, port: None };
    }
    let told = || address::parse(question.remote_host.as_deref()?);
    let address = address::parse(client).or_else(told).map(|(address, _)| address);
    Source { address, port: words.next().and_then(|word| word.parse().ok()) }
}

/// What sshd says of the client's end, first in `SSH_CONNECTION`.
fn client_of(question: &Question) -> &str {
    question.connection.as_deref().unwrap_or_default()
}

/// Adds where the connection comes from: its address, a link-local one's zone, and what sshd said where that is no address:
/// it must not pass for a local socket, which has none.
pub fn placed(mut draft: Draft, question: &Question) -> Draft {
    draft.source = Some(source_of(question));
    let client = client_of(question).split(' ').next().unwrap_or_default();
    match address::parse(client) {
        Some((_, Some(zone))) => draft.with("zone", zone),
        Some((_, None)) => draft,
        None if client.is_empty() || client == address::NONE => draft,
        None => draft.with("given_source", client),
    }
}

#[cfg(test)]
mod tests {
    use record::ArtifactType;

    use super::{super::tests::question, *};

    #[test]
    fn an_address_with_a_zone_is_an_address_and_what_is_none_is_told_as_given() {
        let of = |connection: &str| {
            let draft = placed(Draft::new(ArtifactType::SessionOpened, "x"), &question(connection));
            let source = draft.source.expect("always there");
            let detail = |name: &str| draft.detail.get(name).and_then(|value| value.as_str()).map(str::to_owned);
            (source.address.map(|address| address.to_string()), source.port, detail("zone"), detail("given_source"))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of("fe80::1%eth0 4711 fe80::2%eth0 22"), (some("fe80::1"), Some(4711), some("eth0"), None));
        assert_eq!(of("192.0.2.7 4711 192.0.2.1 22"), (some("192.0.2.7"), Some(4711), None, None));
        assert_eq!(of("UNKNOWN 65535 UNKNOWN 65535"), (None, None, None, None), "a local socket");
        assert_eq!(of("nonsense 4711 192.0.2.1 22"), (None, Some(4711), None, some("nonsense")));
    }
}
