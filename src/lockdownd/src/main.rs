//! The enforcer's entry.

use std::{ffi::OsString, process::ExitCode};

use lockdownd::host::quarantine::{RESTORE_ARGUMENT, restore_as_account};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [first, rest @ ..] = arguments.as_slice()
        && first == RESTORE_ARGUMENT
    {
        return restore_as_account(rest);
    }
    ExitCode::SUCCESS
}
