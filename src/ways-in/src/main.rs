//! Surveys every server by which an SSH login could succeed on this host, and prints what it finds as JSON.
//!
//! lockdownd runs it for each look at the ways in, as root, with a [`SurveyOrder`] on its standard input, and kills it with all
//! that it has started once it takes too long. It prints facts; what they mean is decided by lockdown-core's `policy::ways_in`.
//! It writes nothing, and connects to nobody.
//!
//! What it reads and runs is what others have configured, so it gives up first whatever it does not need (`confine`). Two
//! capabilities are left: to read root's files (`sshd_config` and what it includes, host keys, which `sshd -T` loads), and to see
//! which program each process runs and which sockets it holds. The second one, and what needs it, comes first: Landlock forbids a
//! look at processes outside of it, so it begins once that is done, before anything is run.

mod confine;
mod look;
mod others;
mod processes;

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

use lockdown_core::policy::ways_in::{SurveyOrder, Surveyed};
use lockdown_host::sshd::units;

use crate::{confine::ConfineError, processes::Running};

/// The most bytes read of an order: some hundred accounts and configurations.
const MAX_ORDER: u64 = 1 << 20;

/// It could not survey anything.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the order on standard input cannot be read: {0}")]
    Order(#[from] serde_json::Error),
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error("what was found cannot be told: {0}")]
    Told(#[from] io::Error),
}

fn main() -> ExitCode {
    match survey() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn survey() -> Result<(), Error> {
    let order: SurveyOrder = serde_json::from_reader(io::stdin().take(MAX_ORDER))?;
    confine::give_up_rights()?;
    let mut unconfined: Vec<String> = confine::refuse_calls().err().into_iter().map(|why| why.to_string()).collect();
    let on_demand = units::on_demand();
    let running = Running::look(&on_demand);
    confine::see_no_more_processes()?;
    unconfined.extend(confine::write_nothing().err().map(|why| why.to_string()));
    let surveyed = Surveyed { unconfined, ..look::survey(&order, running, &on_demand) };
    let mut line = serde_json::to_vec(&surveyed.bounded())?;
    line.push(b'\n');
    Ok(io::stdout().write_all(&line)?)
}
