//! PAM's account step (pam_acct_mgmt(3)), asked as sshd asks it, with a conversation that answers nothing.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    mem::transmute,
    ptr::{self, NonNull},
};

use asker::Account;

use crate::library::Library;

/// Linux-PAM's numbers (`security/_pam_types.h`).
const SUCCESS: c_int = 0;
const BUF_ERR: c_int = 5;
const CONV_ERR: c_int = 19;
const TTY: c_int = 3;
const RHOST: c_int = 4;
const ERROR_MSG: c_int = 3;
const TEXT_INFO: c_int = 4;
const DATA_SILENT: c_int = 0x4000_0000;
/// The most of what modules say that is kept, in messages and in bytes of each.
const MAX_SAID: usize = 8;
const MAX_TEXT: usize = 300;
/// What sshd gives as the terminal.
const TERMINAL: &CStr = c"ssh";
/// By which a module's own program can tell that this is no login.
const NO_LOGIN: &CStr = c"LOCKDOWND_ASKS=1";

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    unused: c_int,
}

type Converse = extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int;

#[repr(C)]
struct Conversation {
    converse: Converse,
    data: *mut c_void,
}

type Start = unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *mut *mut c_void) -> c_int;
type SetItem = unsafe extern "C" fn(*mut c_void, c_int, *const c_void) -> c_int;
type PutEnvironment = unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int;
type Step = unsafe extern "C" fn(*mut c_void, c_int) -> c_int;
type InWords = unsafe extern "C" fn(*mut c_void, c_int) -> *const c_char;

struct Pam {
    start: Start,
    set_item: SetItem,
    put_environment: PutEnvironment,
    account: Step,
    end: Step,
    in_words: InWords,
}

impl Pam {
    fn load() -> Option<Self> {
        let library = Library::load(c"libpam.so.0")?;
        let of = |name: &CStr| library.symbol(name).map(NonNull::as_ptr);
        let [start, account, end] = [of(c"pam_start")?, of(c"pam_acct_mgmt")?, of(c"pam_end")?];
        let [set_item, put_environment, in_words] = [of(c"pam_set_item")?, of(c"pam_putenv")?, of(c"pam_strerror")?];
        Some(Self {
            // SAFETY: pam_start(3) has this type.
            start: unsafe { transmute::<*mut c_void, Start>(start) },
            // SAFETY: pam_set_item(3) has this type.
            set_item: unsafe { transmute::<*mut c_void, SetItem>(set_item) },
            // SAFETY: pam_putenv(3) has this type.
            put_environment: unsafe { transmute::<*mut c_void, PutEnvironment>(put_environment) },
            // SAFETY: pam_acct_mgmt(3) has this type.
            account: unsafe { transmute::<*mut c_void, Step>(account) },
            // SAFETY: pam_end(3) has this type.
            end: unsafe { transmute::<*mut c_void, Step>(end) },
            // SAFETY: pam_strerror(3) has this type.
            in_words: unsafe { transmute::<*mut c_void, InWords>(in_words) },
        })
    }
}

/// What PAM's account step says of this account, for a login by this service from this address.
pub(crate) fn account(service: &CStr, account: &CStr, address: &CStr) -> Account {
    let Some(pam) = Pam::load() else { return Account::Unasked("libpam.so.0 cannot be loaded".to_owned()) };
    let mut said: Vec<String> = Vec::new();
    let conversation = Conversation { converse, data: (&raw mut said).cast() };
    let mut handle = ptr::null_mut();
    // SAFETY: all are C strings; the conversation and what it writes to outlive the handle, which ends below.
    let mut code = unsafe { (pam.start)(service.as_ptr(), account.as_ptr(), &raw const conversation, &raw mut handle) };
    if code == SUCCESS {
        // As sshd does it.
        for (item, value) in [(RHOST, address), (TTY, TERMINAL)] {
            // SAFETY: the handle is one that pam_start has given, and these items are C strings, which libpam copies.
            unsafe { (pam.set_item)(handle, item, value.as_ptr().cast()) };
        }
        // SAFETY: as above.
        unsafe { (pam.put_environment)(handle, NO_LOGIN.as_ptr()) };
        // SAFETY: as above.
        code = unsafe { (pam.account)(handle, 0) };
    }
    // SAFETY: libpam takes any handle here, and any code.
    let text = unsafe { (pam.in_words)(handle, code) };
    let text = if text.is_null() { String::new() } else { read(text) };
    if !handle.is_null() {
        // SAFETY: the handle is used no more.
        unsafe { (pam.end)(handle, code | DATA_SILENT) };
    }
    Account::Answered { code, text, said }
}

fn read(text: *const c_char) -> String {
    // SAFETY: libpam and its modules give C strings, which live for as long as this call.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().chars().take(MAX_TEXT).collect()
}

/// Keeps what is said, and answers no question.
extern "C" fn converse(
    count: c_int,
    messages: *mut *const Message,
    to: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let Ok(count) = usize::try_from(count) else { return CONV_ERR };
    for index in 0..count {
        // SAFETY: libpam gives so many pointers (Linux-PAM's layout, pam_conv(3)).
        let at = unsafe { messages.add(index) };
        // SAFETY: as above.
        let message = unsafe { at.read() };
        // SAFETY: each of them leads to a message.
        let Message { style, text } = unsafe { message.read() };
        if ![ERROR_MSG, TEXT_INFO].contains(&style) {
            return CONV_ERR;
        }
        // SAFETY: this is the list that `account` has given and does not touch meanwhile.
        let said = unsafe { &mut *data.cast::<Vec<String>>() };
        if said.len() < MAX_SAID && !text.is_null() {
            said.push(read(text));
        }
    }
    // SAFETY: calloc(3) takes any sizes; the module that asked frees it.
    let responses = unsafe { libc::calloc(count, size_of::<Response>()) };
    if responses.is_null() {
        return BUF_ERR;
    }
    // SAFETY: libpam gives a place to write to.
    unsafe { to.write(responses.cast()) };
    SUCCESS
}

/// An argument as C has it.
pub(crate) fn c_string(argument: std::ffi::OsString) -> Option<CString> {
    use std::os::unix::ffi::OsStringExt;
    CString::new(argument.into_vec()).ok()
}
