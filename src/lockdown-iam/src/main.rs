//! `lockdown-iam`: who may log in by IAM, read from one place.
//!
//! It can close by itself: a hold on one person of its source, signed by its own key. What opens is written down for people to
//! sign, unless the hosts' configuration has its key for that, too. What IAM did not say to its end changes nothing.

mod aws;
mod check;
mod cli;
mod config;
mod context;
mod failure;
mod files;
mod http;
mod known;
mod memory;
mod people;
mod plan;
mod reading;
mod report;
mod server;
mod signing;
mod sync;

use std::process::ExitCode;

use clap::Parser;
use terminal::{complain, print};

use crate::{
    cli::{Cli, Command},
    context::Context,
    failure::{Exit, Failure},
    report::Report,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok((text, exit)) => match print(&text) {
            Ok(_) => exit,
            Err(_) => Exit::Refused,
        },
        Err(failure) => {
            complain(&failure.words());
            failure.exit
        }
    }
    .into()
}

fn run(cli: &Cli) -> Result<(String, Exit), Failure> {
    let context = Context::load(&cli.config)?;
    match cli.command {
        Command::Check => Ok(check::run(&context)),
        Command::Sync { dry_run } => {
            let mut report = Report::default();
            let done = sync::run(&context, dry_run, &mut report);
            let _ = print(&report.words(dry_run, &context.state));
            done.map(|()| (String::new(), Exit::Done))
        }
    }
}
