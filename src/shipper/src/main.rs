//! lockdownd-shipper: sends the ledger to syslog and to the compliance API. See lockdownd-shipper(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.iter().map(|argument| argument.to_str()).collect::<Vec<_>>().as_slice() {
        [] => shipper::run::daemon(shipper::paths::Paths::default()),
        [Some("--version")] => {
            println!("lockdownd-shipper {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "usage: lockdownd-shipper [--version]\nIt is started by systemd: systemctl start lockdownd-shipper"
            );
            ExitCode::from(2)
        }
    }
}
