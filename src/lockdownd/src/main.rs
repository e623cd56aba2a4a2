//! lockdownd: makes SSH on this instance deny-by-default, temporary, attributable and provable. See lockdownd(8).

use std::{ffi::OsString, process::ExitCode};

use lockdown_host::config_files::Proposed;
use lockdownd::{driver::homes::remote, supervisor};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.iter().map(|argument| argument.to_str()).collect::<Vec<_>>().as_slice() {
        [] => supervisor::supervise(),
        [Some(supervisor::SERVE), Some(supervisor)] => lockdownd::run::daemon(supervisor),
        [Some("--check")] => lockdownd::run::check(None),
        [Some("--check"), Some(file)] => lockdownd::run::check(Some(file.as_ref())),
        [Some("--check"), Some("--as"), ..] => {
            proposed(&arguments[1..]).map_or_else(usage, |proposed| lockdownd::run::check_as(&proposed))
        }
        [Some("--reload")] => lockdownd::run::reload(),
        [Some("--keep-writers")] => lockdownd::run::keep_writers(),
        [Some("--version")] => {
            println!("lockdownd {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        [Some(lockdown_host::quarantine::RESTORE_ARGUMENT), ..] => {
            lockdown_host::quarantine::restore_as_account(&arguments[1..])
        }
        [Some(remote::ARGUMENT), ..] => remote::look_after(&arguments[1..]),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: lockdownd [--check [FILE | --as DESTINATION FILE]... | --reload | --version]\n\
         It is started by systemd: systemctl start lockdownd"
    );
    ExitCode::from(2)
}

/// `--as DESTINATION FILE`, again and again.
fn proposed(arguments: &[OsString]) -> Option<Vec<Proposed>> {
    let one = |group: &[OsString]| match group {
        [option, destination, file] if option == "--as" => {
            Some(Proposed { destination: destination.into(), file: file.into() })
        }
        _ => None,
    };
    arguments.chunks(3).map(one).collect()
}
