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
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Wrong arguments, as everywhere here.
const USAGE: u8 = 2;

/// By which root changes what is another's: a module that counts failures resets that at each login (pam_faillock(8)).
const CHANGES: CapabilitySet =
    CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::FOWNER).union(CapabilitySet::CHOWN).union(CapabilitySet::KILL);

/// Gives up what would change anything that is not root's. Who cannot asks all the same.
fn change_nothing() {
    if let Ok(mut sets) = capabilities(None) {
        sets.effective.remove(CHANGES);
        sets.permitted.remove(CHANGES);
        sets.inheritable.remove(CHANGES);
        let _ = set_capabilities(None, sets);
    }
}

fn main() -> ExitCode {
    change_nothing();
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
