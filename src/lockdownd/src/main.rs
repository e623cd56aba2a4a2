//! lockdownd: makes SSH on this instance deny-by-default, temporary, attributable and provable. See lockdownd(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.iter().map(|argument| argument.to_str()).collect::<Vec<_>>().as_slice() {
        [] => lockdownd::run::daemon(),
        [Some("--check")] => lockdownd::run::check(None),
        [Some("--check"), Some(file)] => lockdownd::run::check(Some(file.as_ref())),
        [Some("--version")] => {
            println!("lockdownd {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        [Some(lockdownd::host::quarantine::RESTORE_ARGUMENT), ..] => {
            lockdownd::host::quarantine::restore_as_account(&arguments[1..])
        }
        _ => {
            eprintln!(
                "usage: lockdownd [--check [FILE] | --version]\nIt is started by systemd: systemctl start lockdownd"
            );
            ExitCode::from(2)
        }
    }
}
