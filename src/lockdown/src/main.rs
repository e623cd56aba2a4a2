//! `lockdown`: who may log in to a whole stack, from a laptop.
//!
//! It makes documents, has `ssh-keygen` sign them with a person's own key, and hands them to a server that nobody has to
//! trust: hosts believe signatures, and so does this program. It signs nothing that it has not shown.

mod answers;
mod cache;
mod cli;
mod client;
mod commands;
mod complete;
mod config;
mod draft;
mod failure;
mod files;
mod hosts;
mod keys;
mod known;
mod make;
mod output;
mod progress;
mod send;
mod server;
mod show;
mod sign;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    complete::for_a_shell();
    commands::run(cli::Cli::parse()).into()
}
