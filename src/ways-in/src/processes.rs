//! What is read of processes: which of them are SSH servers, and where they listen.

use std::collections::HashMap;

use lockdown_core::policy::ways_in::OtherServer;
use lockdown_host::{
    listening,
    processes::ProcessId,
    sshd::{
        listener::{self, Listener},
        units::OnDemand,
    },
};

use crate::others;

/// Every server that runs.
#[derive(Debug, Default)]
pub(crate) struct Running {
    /// Every sshd, those in other root directories last.
    pub(crate) sshds: Vec<Listener>,
    /// Where each listens.
    pub(crate) listens: HashMap<ProcessId, Vec<String>>,
    /// Every other server.
    pub(crate) others: Vec<OtherServer>,
    /// What could not be looked at, a sentence each.
    pub(crate) unseen: Vec<String>,
}

impl Running {
    /// Looks at all processes.
    pub(crate) fn look(on_demand: &[OnDemand]) -> Self {
        let mut unseen = Vec::new();
        let mut sshds = listener::sshd_listeners().unwrap_or_else(|error| {
            unseen.push(format!("running sshds cannot be found: {error}"));
            Vec::new()
        });
        let others = others::find(&sshds, on_demand, &mut unseen);
        sshds.extend(listener::elsewhere().unwrap_or_default());
        let ids = sshds.iter().filter_map(|sshd| sshd.process);
        let listens = ids.map(|id| (id, listening::addresses(id.pid))).collect();
        Self { sshds, listens, others, unseen }
    }
}
