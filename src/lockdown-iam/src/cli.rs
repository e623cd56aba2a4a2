//! The command line: what may be typed, and the help that says so. It never acts.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

const AFTER: &str = "\
Exit status: 0 done; 1 refused or found wrong; 2 wrong usage; 69 IAM or the server does not answer; 78 bad configuration. \
Unless it is 0, something was not done; what IAM did not say to its end changes nothing at all.

See also: lockdown-iam(8), lockdown(1).";

/// Hold who has left IAM, and propose who has joined
///
/// Reads the users of some groups of IAM from one place. Who is gone, disabled or out of the groups is held on every host within
/// a minute, by a document that this program's own key signs; who is new or changed is written to a roster for people to sign.
#[derive(Debug, Parser)]
#[command(name = "lockdown-iam", version, after_long_help = AFTER)]
pub(crate) struct Cli {
    /// The configuration
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/lockdown/iam.toml")]
    pub(crate) config: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at IAM once, and do what follows
    Sync {
        /// Say what would follow and which calls it took, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Say whether credentials, permissions, groups, names, server and key are as they have to be
    Check,
}
