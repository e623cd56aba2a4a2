//! The shipper's own log: lines on standard error, with the priority that journald takes off again (sd-daemon(3)).
//!
//! Said when something changes, never for each try. Never a token, never a key.

use std::fmt::Arguments;

/// Something failed, and somebody should look.
pub(crate) fn error(text: Arguments<'_>) {
    say(3, text);
}

/// An operator should look.
pub(crate) fn warn(text: Arguments<'_>) {
    say(4, text);
}

/// Something changed.
pub(crate) fn info(text: Arguments<'_>) {
    say(6, text);
}

fn say(priority: u8, text: Arguments<'_>) {
    // One line is one entry. What a server sent may hold anything: it may not begin entries of its own.
    let text: String = text.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    eprintln!("<{priority}>{text}");
}
