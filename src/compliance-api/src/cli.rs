//! The command line: `serve`, and tokens on the same database.
//!
//! A token's text goes to standard output once, and nowhere else.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{config::Config, openapi, problem::describe, serve};

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
    /// Print the description of the HTTP interface (OpenAPI 3.1, JSON)
    Openapi,
}

/// Parses the command line and does what it says.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_ansi(false).init();
    if let Command::Openapi = cli.command {
        println!("{}", openapi::text());
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(cli.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("compliance-api: {}", describe(&error));
            return EXIT_CONFIG.into();
        }
    };
    let done = match cli.command {
        Command::Serve | Command::Openapi => serve::run(config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compliance-api: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}
