//! Asks the libraries that sshd asks about a login, without one:
//!
//! - `asker account SERVICE ACCOUNT ADDRESS`: whether PAM's account step lets this account by, in this service and for a login
//!   from this address;
//! - `asker takes ADDRESS`: whether libwrap takes a connection from there.
//!
//! lockdownd runs it as a child with a limit, so that no module of a site's is ever loaded into the daemon. It decides nothing.
//! It exists apart because it alone holds these unsafe calls.

mod library;
mod pam;
mod wrap;

use std::{
    ffi::CString,
    io::{self, Write},
    process::ExitCode,
};

use asker::{DROPS, TAKES};

/// Wrong arguments, as everywhere here.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Option<Vec<CString>> = std::env::args_os().skip(1).map(pam::c_string).collect();
    let answer = match arguments.as_deref() {
        Some([what, service, account, address]) if what.as_c_str() == c"account" => {
            serde_json::to_string(&pam::account(service, account, address)).map_err(io::Error::other)
        }
        Some([what, address]) if what.as_c_str() == c"takes" => {
            Ok(wrap::takes(address).map_or("", |takes| if takes { TAKES } else { DROPS }).to_owned())
        }
        _ => {
            let _ = writeln!(io::stderr(), "usage: asker account SERVICE ACCOUNT ADDRESS | asker takes ADDRESS");
            return ExitCode::from(USAGE);
        }
    };
    match answer.and_then(|line| writeln!(io::stdout(), "{line}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
