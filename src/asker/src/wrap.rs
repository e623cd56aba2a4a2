//! libwrap's answer (hosts_access(5)), by which Debian's sshd takes or drops a connection.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    mem::transmute,
};

use crate::library::Library;

/// As which daemon sshd asks.
const DAEMON: &CStr = c"sshd";
/// What libwrap takes for a name or user that is not known.
const UNKNOWN: &CStr = c"unknown";

type HostsCtl = unsafe extern "C" fn(*const c_char, *const c_char, *const c_char, *const c_char) -> c_int;

/// Whether libwrap takes a connection from this address; `None` where there is no libwrap.
pub(crate) fn takes(address: &CStr) -> Option<bool> {
    let library = Library::load(c"libwrap.so.0")?;
    // Commands in its files are not run then: tcpdmatch(8) sets it, too.
    let dry_run = library.symbol(c"dry_run")?.cast::<c_int>();
    // SAFETY: libwrap's own variable of this type, and no other thread.
    unsafe { dry_run.write(1) };
    let hosts_ctl = library.symbol(c"hosts_ctl")?;
    // SAFETY: hosts_ctl of hosts_access(3) has this type.
    let hosts_ctl = unsafe { transmute::<*mut c_void, HostsCtl>(hosts_ctl.as_ptr()) };
    // SAFETY: all are C strings, which libwrap copies.
    let taken = unsafe { hosts_ctl(DAEMON.as_ptr(), UNKNOWN.as_ptr(), address.as_ptr(), UNKNOWN.as_ptr()) };
    Some(taken != 0)
}
