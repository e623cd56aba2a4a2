//! The compliance API: takes signed records from hosts and artifacts from other clients, verifies them, keeps them for
//! good, answers with receipts, and serves them as evidence by requirement.
//!
//! It never trusts a record that it has not verified, never answers before what it took is on disk, and never changes or
//! removes what is stored.

pub mod admin;
pub mod auth;
pub mod checkpoints;
pub mod cli;
pub mod config;
pub mod describe;
pub mod documents;
pub mod evidence;
pub mod identity;
pub mod incidents;
pub mod ingest;
pub mod metrics;
pub mod moment;
pub mod network;
pub mod noting;
pub mod openapi;
pub mod own_ledger;
pub mod pages;
pub mod problem;
pub mod read;
pub mod requirements;
pub mod review;
pub mod reviewers;
pub mod serve;
pub mod store;
pub mod token;
pub mod verdict;
pub mod watch;
pub mod webhook;

use std::sync::Arc;

use config::Config;
use documents::Documents;
use metrics::Metrics;
use noting::Gathered;
use requirements::Catalog;
use serve::{Places, Readiness};
use store::Store;
use webhook::Hook;

/// What every request works with.
#[derive(Debug)]
pub struct App {
    /// The configuration in force.
    pub config: Config,
    /// The store.
    pub store: Store,
    /// Incidents that wait to be written.
    pub gathered: Gathered,
    /// What asks for evidence, and which artifacts are evidence of what.
    pub catalog: Catalog,
    /// Documents of stacks, where it is configured to keep them.
    pub documents: Option<Arc<Documents>>,
    /// Who is told of what happens.
    pub hook: Hook,
    /// Whether it could store the last time that somebody asked.
    pub readiness: Readiness,
    /// How many batches each source has under way.
    pub sources: Places<String>,
    /// Sessions in browsers that are over.
    pub signed_out: pages::Ended,
    /// What it counts about itself.
    pub metrics: Metrics,
}
