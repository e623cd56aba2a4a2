//! What runs inside the instance: makes accounts, is the floor, and takes times where no command's start blurs them.
//!
//! It prints one sample a line, `NAME NANOSECONDS`. It is linked statically and knows nothing of lockdownd's insides.

mod accounts;
mod deadlines;
mod flood;
mod grants;
mod idle;
mod removals;
mod unlink_loop;
mod walk;

use std::process::ExitCode;

/// A failure of the probe itself: it ends it.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), Failure> {
    match words {
        ["accounts", count] => accounts::make(count.parse()?),
        ["unlink-loop", count] => unlink_loop::run(count.parse()?),
        ["removals", count, rounds] => removals::run(count.parse()?, rounds.parse()?),
        ["deadlines", wait, count] => deadlines::run(wait.parse()?, count.parse()?),
        ["grants", list] => grants::run(list),
        ["walk", count] => walk::run(count.parse()?),
        ["flood", count] => flood::run(count.parse()?),
        ["idle", pid, count, seconds] => idle::run(pid.parse()?, count.parse()?, seconds.parse()?),
        _ => Err(
            "accounts N | unlink-loop N | removals N ROUNDS | deadlines WAIT N | grants LIST | walk N | flood N | idle PID N SECONDS"
                .into(),
        ),
    }
}
