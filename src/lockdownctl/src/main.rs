//! `lockdownctl`: the operator's command. It asks lockdownd and shows what came back; it never touches a key file or
//! the ledger's key.

mod ask;
mod cli;
mod commands;
mod complete;
mod output;
mod pager;

use std::process::ExitCode;

use clap::Parser;
use terminal::{moment, paint, table};

fn main() -> ExitCode {
    complete::for_a_shell();
    commands::run(cli::Cli::parse(), std::path::Path::new(control::SOCKET)).into()
}
