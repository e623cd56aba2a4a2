//! The command line: `serve`, `check`, and tokens and the key on the same database.
//!
//! A token's text goes to standard output once, and nowhere else. Nothing opens the database as another user than the
//! one it belongs to.

mod backup;
mod log;
mod migrate;
mod owner;
mod server_key;
mod tokens;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{config::Config, describe::describe, openapi, serve};

/// A configuration that does not check out, sysexits.h.
const EXIT_CONFIG: u8 = 78;

#[derive(Debug, Parser)]
#[command(version, about = "Verifies, keeps and serves access records as evidence")]
struct Cli {
    /// The configuration file [default: /etc/compliance-api/config.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until stopped
    Serve,
    /// Say whether the configuration checks out
    Check,
    /// Make, list and revoke tokens
    #[command(subcommand)]
    Token(tokens::Command),
    /// The key that signs receipts and the server's own ledger
    #[command(subcommand)]
    ServerKey(server_key::Command),
    /// Back the database and its key up into a new directory, whether the server runs or not
    Backup {
        /// The directory, which is made
        #[arg(value_name = "DIRECTORY")]
        to: PathBuf,
    },
    /// Put a backup where there is no database; then start the server
    Restore {
        /// The directory of the backup
        #[arg(value_name = "DIRECTORY")]
        from: PathBuf,
    },
    /// Move all that is stored to the other engine, and compare it record by record; what was stopped is gone on with
    Migrate(migrate::Wanted),
    /// Print the description of the HTTP interface (OpenAPI 3.1, JSON)
    Openapi,
}

/// Parses the command line and does what it says.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Openapi = cli.command {
        println!("{}", openapi::text());
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(cli.config.as_deref()) {
        Ok(config) => config,
        Err(error) => return failed(&error, EXIT_CONFIG.into()),
    };
    log::start(config.log.format);
    match cli.command {
        Command::Openapi => ExitCode::SUCCESS,
        Command::Check => match serve::check(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error, EXIT_CONFIG.into()),
        },
        Command::Serve => ended(serve::run(config)),
        Command::Backup { to } => ended(backup::back_up(&to, &config)),
        Command::Restore { from } => ended(backup::restore(&from, &config)),
        Command::Migrate(wanted) => ended(migrate::run(wanted, &config)),
        Command::ServerKey(command) => match owner::become_owner_of(&config.state) {
            Ok(()) => ended(server_key::run(command, &config)),
            Err(error) => failed(&error, ExitCode::FAILURE),
        },
        Command::Token(command) => match owner::become_owner_of(&config.state) {
            Ok(()) => ended(tokens::run(command, &config)),
            Err(error) => failed(&error, ExitCode::FAILURE),
        },
    }
}

fn ended(done: Result<(), impl std::error::Error>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, ExitCode::FAILURE),
    }
}

fn failed(error: &dyn std::error::Error, code: ExitCode) -> ExitCode {
    eprintln!("compliance-api: {}", describe(error));
    code
}
