//! `lockdownctl`: the operator's command. It asks lockdownd and shows what came back; it never touches a key file or
//! the ledger's key.

mod ask;
mod cli;
mod commands;
mod complete;
mod moment;
mod output;
mod pager;
mod paint;
mod table;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    complete::for_a_shell();
    commands::run(cli::Cli::parse(), std::path::Path::new(control::SOCKET)).into()
}
