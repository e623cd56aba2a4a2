//! The options before a key, read as sshd reads them (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").
//!
//! An option that sshd does not know makes it refuse the line, so it does here. What depends on the machine or the moment
//! (a service's name as a port, whether an expiry has passed, whether `from=` fits) is never grounds to refuse a line.

use super::wire::is_space;

/// The most bytes sshd takes in the host of `permitopen=` and `permitlisten=` (`NI_MAXHOST` less its NUL).
const MAX_HOST: usize = 1024;

/// The highest number of a device in `tunnel=` (`SSH_TUNID_MAX`).
const MAX_TUNNEL: i64 = 0x7fff_fffd;

/// The first year in which an `expiry-time=` may stand: earlier ones are before 1970 in every time zone.
const FIRST_EXPIRY_YEAR: u32 = 1969;

/// What the options before a key come to, as far as it decides who gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options<'a> {
    /// The options as they stand in the line; empty when there are none.
    pub raw: &'a [u8],
    /// `cert-authority`: the key opens nothing itself, and every certificate that it has signed gets in.
    pub cert_authority: bool,
    /// `principals=` was given. Without `cert-authority` sshd lets nobody in by such a line.
    pub principals: bool,
    /// `expiry-time=` was given; whether it has passed is not looked at.
    pub expires: bool,
    /// `command=` was given: it runs instead of a shell.
    pub command: bool,
    /// `from=` was given: the key counts from some addresses only.
    pub from: bool,
}

/// Why sshd refuses a line for its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No option of this name, or something other than a comma after one.
    #[error("an option that sshd does not know")]
    Unknown,
    /// `name=` without a quote after it.
    #[error("an option's value is not in double quotes")]
    NoQuote,
    /// A quote that nothing ends.
    #[error("a double quote is not closed")]
    OpenQuote,
    /// `command=`, `from=` or `principals=` for the second time.
    #[error("{0}= is given twice")]
    Twice(&'static str),
    /// A value that sshd does not take.
    #[error("{0}= has a value that sshd does not take")]
    Value(&'static str),
    /// `principals=` on a key that is not a certificate authority's.
    #[error("principals= stands without cert-authority")]
    PrincipalsAlone,
}

/// Flags, and whether `no-` may stand before them. As in sshd a name matches by its beginning, and what then follows it
/// decides.
const FLAGS: [(&str, bool); 9] = [
    ("restrict", false),
    ("cert-authority", false),
    ("port-forwarding", true),
    ("agent-forwarding", true),
    ("x11-forwarding", true),
    ("touch-required", true),
    ("verify-required", true),
    ("pty", true),
    ("user-rc", true),
];

/// Options with a value.
const VALUED: [&str; 8] =
    ["command", "principals", "from", "expiry-time", "environment", "permitopen", "permitlisten", "tunnel"];

/// Where the options at the start of `text` end: at the first blank or tab outside quotes.
///
/// # Errors
/// [`OptionError::OpenQuote`] when a quote stays open to the end.
pub(super) fn length(text: &[u8]) -> Result<usize, OptionError> {
    let (mut at, mut quoted) = (0, false);
    while let Some(&byte) = text.get(at) {
        match byte {
            b' ' | b'\t' if !quoted => break,
            b'\\' if text.get(at + 1) == Some(&b'"') => at += 1,
            b'"' => quoted = !quoted,
            _ => {}
        }
        at += 1;
    }
    if quoted && at == text.len() { Err(OptionError::OpenQuote) } else { Ok(at) }
}

/// Reads the options at the start of `text`, up to the first blank or tab outside quotes.
///
/// # Errors
/// Whatever makes sshd refuse the line, [`OptionError`].
pub fn parse(text: &[u8]) -> Result<Options<'_>, OptionError> {
    let mut seen =
        Options { raw: b"", cert_authority: false, principals: false, expires: false, command: false, from: false };
    let mut given: Vec<&'static str> = Vec::new();
    let mut rest = text;
    while !at_end(rest) {
        if let Some((flag, after)) = take_flag(rest) {
            seen.cert_authority |= flag == "cert-authority";
            rest = after;
        } else if let Some((name, after)) = take_name(rest) {
            let (value, after) = unquote(after)?;
            if matches!(name, "command" | "principals" | "from") && given.contains(&name) {
                return Err(OptionError::Twice(name));
            }
            check(name, &value)?;
            given.push(name);
            rest = after;
        }
        if at_end(rest) {
            break;
        }
        rest = rest.strip_prefix(b",").ok_or(OptionError::Unknown)?;
    }
    seen.principals = given.contains(&"principals");
    seen.expires = given.contains(&"expiry-time");
    seen.from = given.contains(&"from");
    seen.command = given.contains(&"command");
    if seen.principals && !seen.cert_authority {
        return Err(OptionError::PrincipalsAlone);
    }
    seen.raw = &text[..text.len() - rest.len()];
    Ok(seen)
}

fn at_end(rest: &[u8]) -> bool {
    matches!(rest.first(), None | Some(b' ' | b'\t'))
}

fn strip_name<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name.as_bytes()).then_some(rest)
}

fn take_flag(text: &[u8]) -> Option<(&'static str, &[u8])> {
    FLAGS.iter().find_map(|(name, may_negate)| {
        let positive = if *may_negate { strip_name(text, "no-").unwrap_or(text) } else { text };
        Some((*name, strip_name(positive, name)?))
    })
}

fn take_name(text: &[u8]) -> Option<(&'static str, &[u8])> {
    VALUED.iter().find_map(|name| Some((*name, strip_name(text, name)?.strip_prefix(b"=")?)))
}

/// The value in double quotes at the start of `text`, in which `\"` stands for a quote, and what comes after it.
fn unquote(text: &[u8]) -> Result<(Vec<u8>, &[u8]), OptionError> {
    let mut rest = text.strip_prefix(b"\"").ok_or(OptionError::NoQuote)?;
    let mut value = Vec::new();
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Ok((value, after)),
            [b'\\', b'"', after @ ..] => {
                value.push(b'"');
                after
            }
            [byte, after @ ..] => {
                value.push(*byte);
                after
            }
            [] => return Err(OptionError::OpenQuote),
        };
    }
}

fn check(name: &'static str, value: &[u8]) -> Result<(), OptionError> {
    let taken = match name {
        "expiry-time" => is_expiry(value),
        "environment" => is_environment(value),
        "permitlisten" if !value.contains(&b':') => is_port(value),
        "permitopen" | "permitlisten" => is_permission(value),
        "tunnel" => value.eq_ignore_ascii_case(b"any") || number(value, MAX_TUNNEL).is_some(),
        _ => true,
    };
    if taken { Ok(()) } else { Err(OptionError::Value(name)) }
}

/// `YYYYMMDD[HHMM[SS]]`, with `Z` or `UTC` after it or not, each number as glibc's `strptime` reads it. Whether the day
/// exists is not asked: `mktime` carries what is too much over.
fn is_expiry(value: &[u8]) -> bool {
    let ends_in = |suffix: &[u8]| {
        let digits = value.len().checked_sub(suffix.len()).filter(|digits| *digits > 0)?;
        value[digits..].eq_ignore_ascii_case(suffix).then_some(&value[..digits])
    };
    let digits = ends_in(b"Z").or_else(|| ends_in(b"UTC")).unwrap_or(value);
    if !matches!(digits.len(), 8 | 12 | 14) {
        return false;
    }
    let (year, others) = digits.split_at(4);
    let allowed = [1..=12, 1..=31, 0..=23, 0..=59, 0..=61];
    field(year).is_some_and(|year| year >= FIRST_EXPIRY_YEAR)
        && others.chunks(2).zip(allowed).all(|(part, range)| field(part).is_some_and(|n| range.contains(&n)))
}

/// A number with blanks before it.
fn field(part: &[u8]) -> Option<u32> {
    let digits = &part[part.iter().take_while(|byte| is_space(**byte)).count()..];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn is_environment(value: &[u8]) -> bool {
    value.iter().position(|byte| *byte == b'=').is_some_and(|length| {
        length > 0 && value[..length].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    })
}

/// `HOST:PORT` or `HOST/PORT`; a host in brackets may hold colons.
fn is_permission(value: &[u8]) -> bool {
    let host = match value {
        [b'[', ..] => value.iter().position(|byte| *byte == b']').map(|at| at + 1),
        _ => value.iter().position(|byte| matches!(byte, b':' | b'/')),
    };
    host.and_then(|at| value.split_at_checked(at))
        .is_some_and(|(host, rest)| host.len() <= MAX_HOST && matches!(rest, [b':' | b'/', port @ ..] if is_port(port)))
}

/// A port, `*`, or the name of a service, which only the machine's own list could tell from nonsense.
fn is_port(value: &[u8]) -> bool {
    let looks_numeric = value.iter().all(|byte| byte.is_ascii_digit());
    value == b"*" || if looks_numeric { number(value, 65_535).is_some_and(|port| port > 0) } else { !value.is_empty() }
}

/// A whole number from 0 to `most`, with blanks and a sign before it, as `strtonum`(3) reads it.
fn number(value: &[u8], most: i64) -> Option<i64> {
    let text = &value[value.iter().take_while(|byte| is_space(**byte)).count()..];
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number| (0..=most).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sshd_takes_is_taken_up_to_the_first_blank_outside_quotes() {
        for (text, raw) in [
            ("", ""),
            (" x", ""),
            ("restrict x", "restrict"),
            ("RESTRICT,no-PTY\tx", "RESTRICT,no-PTY"),
            ("command=\"a b\",pty x", "command=\"a b\",pty"),
            ("command=\"a\\\" b\" x", "command=\"a\\\" b\""),
            (",restrict,, x", ",restrict,,"),
        ] {
            assert_eq!(parse(text.as_bytes()).map(|options| options.raw), Ok(raw.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn what_sshd_refuses_is_refused_with_its_reason() {
        for (text, error) in [
            ("restricted", OptionError::Unknown),
            ("no-restrict", OptionError::Unknown),
            ("command", OptionError::Unknown),
            ("command=x", OptionError::NoQuote),
            ("command=\"x", OptionError::OpenQuote),
            ("command=\"x\",Command=\"y\"", OptionError::Twice("command")),
            ("from=\"x\",from=\"x\"", OptionError::Twice("from")),
            ("tunnel=\"-1\"", OptionError::Value("tunnel")),
            ("environment=\"A-B=c\"", OptionError::Value("environment")),
            ("permitopen=\"[::1]\"", OptionError::Value("permitopen")),
            ("permitlisten=\"0\"", OptionError::Value("permitlisten")),
            ("expiry-time=\"20991331\"", OptionError::Value("expiry-time")),
            ("principals=\"root\"", OptionError::PrincipalsAlone),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(error), "{text:?}");
        }
    }

    #[test]
    fn an_authority_is_told_from_a_key() {
        let options = parse(b"Cert-Authority,principals=\"root\"").expect("sshd takes it");
        assert!(options.cert_authority && options.principals);
        assert!(!parse(b"restrict").expect("sshd takes it").cert_authority);
    }

    #[test]
    fn a_host_to_forward_to_is_bounded_as_in_sshd() {
        let of_length = |length: usize| parse(format!("permitopen=\"{}:1\"", "h".repeat(length)).as_bytes()).is_ok();
        assert!(of_length(MAX_HOST) && !of_length(MAX_HOST + 1));
    }
}
