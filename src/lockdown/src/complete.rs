//! What a shell completes: commands and options by their definition, and names by the roster that was last seen. Nobody is asked.

use std::collections::BTreeSet;

use clap_complete::{CompleteEnv, CompletionCandidate};
use document::Roster;
use jiff::Timestamp;

use crate::{cache::Cache, cli, client::Client, config::Config, output::Voice};

/// In which environment variable the scripts of `generate completions` name their shell. A name that nobody else sets: with it set,
/// nothing but completion happens.
pub(crate) const VAR: &str = "LOCKDOWN_COMPLETE";
/// The most names of a kind: more than anybody reads, and a shell slows down.
const MAX_NAMES: usize = 1000;

/// Completes and exits, if it is a shell that asks.
pub(crate) fn for_a_shell() {
    CompleteEnv::with_factory(cli::public).var(VAR).complete();
}

/// The people there are.
pub(crate) fn people() -> Vec<CompletionCandidate> {
    of_roster(|roster| roster.people.iter().map(|member| member.name.to_string()).collect())
}

/// The stacks that the roster names.
pub(crate) fn stacks() -> Vec<CompletionCandidate> {
    of_roster(|roster| {
        let by_people = roster.people.iter().flat_map(|member| member.accounts.keys());
        let by_rules = roster.rules.iter().map(|rule| &rule.stack);
        let by_approvers = roster.approvers.iter().flat_map(|approver| &approver.stacks);
        by_people.chain(by_rules).chain(by_approvers).filter(|stack| !stack.is_any()).map(ToString::to_string).collect()
    })
}

/// The accounts that people may be given.
pub(crate) fn accounts() -> Vec<CompletionCandidate> {
    of_roster(|roster| {
        let accounts = roster.people.iter().flat_map(|member| member.accounts.values().flatten());
        accounts.map(ToString::to_string).collect()
    })
}

fn of_roster(names: impl Fn(&Roster) -> BTreeSet<String>) -> Vec<CompletionCandidate> {
    let Ok(config) = Config::load() else { return Vec::new() };
    let cache = Cache::of(&config);
    let client = Client::new(config, cache, None, Voice::plain(true), Timestamp::now());
    let Ok(known) = client.remembered(None) else { return Vec::new() };
    // What a shell would take for its own is not offered.
    let is_plain = |name: &String| name.chars().all(|c| c.is_alphanumeric() || "._-@+".contains(c));
    let names = known.any_roster().map(names).unwrap_or_default();
    names.into_iter().filter(is_plain).take(MAX_NAMES).map(CompletionCandidate::new).collect()
}
