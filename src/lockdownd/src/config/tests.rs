//! What a configuration may say, and how it is refused.

use super::*;


#[test]
fn a_mode_is_all_that_a_config_needs() {
    let config = Config::parse(&[("config.toml", "mode = \"observe\"\n")]).expect("good");
    assert_eq!(config.mode, Mode::Observe);
    assert_eq!(config.schedule.sweep.as_str(), "0 */15 * * * *");
    assert_eq!(config.sessions.warn_before, Some(Duration::from_secs(300)));
    assert!(config.people.is_empty() && config.rendered.is_empty() && config.accounts.exempt.is_empty());
    assert!(config.grants.require_reason && !config.grants.self_grants);
    assert_eq!(config.digest.len(), 64);
}
