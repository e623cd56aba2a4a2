//! What sshd's configuration says of addresses that it shuts out for a while. Runs sshd: never on the main thread.

use std::net::IpAddr;

use control::Cidr;
use lockdown_core::penalties::Rules;

use super::{
    readiness::probes::matches,
    sshd::{
        effective::{EffectiveError, Spec, effective},
        listener::Invocation,
    },
};

/// `PerSourcePenalties` and `PerSourcePenaltyExemptList` of the standard sshd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Penalties {
    /// How failures count.
    pub rules: Rules,
    exempt: Vec<String>,
}

/// Asks sshd; `None` where it shuts nobody out: before OpenSSH 9.8, or by its configuration.
///
/// # Errors
/// When sshd cannot be asked.
pub fn penalties() -> Result<Option<Penalties>, EffectiveError> {
    let settings = effective(&Invocation::standard(), &Spec::of_anybody())?;
    let Some(rules) = settings.get("persourcepenalties").and_then(Rules::parse) else { return Ok(None) };
    let rules = rules.by_block(settings.get("persourcenetblocksize").unwrap_or_default());
    let list = settings.get("persourcepenaltyexemptlist").unwrap_or_default();
    Ok(Some(Penalties { rules, exempt: list.split(',').map(|item| item.trim().to_owned()).collect() }))
}

impl Penalties {
    /// Whether every address can be shut out.
    #[must_use]
    pub fn spares_nobody(&self) -> bool {
        self.exempt.iter().all(|item| item.is_empty() || item == "none")
    }

    /// Whether nothing shuts this address out.
    #[must_use]
    pub fn spares(&self, address: IpAddr) -> bool {
        let named = |pattern: &str| match pattern.parse::<Cidr>() {
            Ok(range) => range.contains(address),
            Err(_) => matches(pattern, &address.to_string()),
        };
        let denied = self.exempt.iter().filter_map(|item| item.strip_prefix('!')).any(named);
        !denied && self.exempt.iter().filter(|item| !item.starts_with('!')).any(|item| named(item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_spared_by_range_or_pattern_unless_it_is_excepted() {
        let rules = Rules::parse("authfail:5").expect("rules");
        let exempt = "10.0.0.0/8,!10.9.0.0/16,192.0.2.*,2001:db8::/32".split(',').map(str::to_owned).collect();
        let penalties = Penalties { rules, exempt };
        for (address, spared) in [
            ("10.1.2.3", true),
            ("10.9.2.3", false),
            ("192.0.2.7", true),
            ("192.0.3.7", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(penalties.spares(address.parse().expect("an address")), spared, "{address}");
        }
        assert!(!Penalties { exempt: vec!["none".into()], ..penalties }.spares("10.1.2.3".parse().expect("one")));
    }
}
