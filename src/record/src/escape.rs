//! How text from outside stands in a record: nothing in it can end a line, hide, or turn around on a screen.
//!
//! A backslash is doubled; each byte that is not UTF-8, and each byte of a character of the classes Cc, Cf, Zl and Zp,
//! becomes `\xNN` (lower-case hex). Different bytes always give different text, and what comes out needs no escaping by
//! JSON beyond `"` and `\`. Never apply this to text that has been through it: a [`Draft`](crate::Draft) holds raw text,
//! and making the record of it escapes it, once.

/// Bytes that are not UTF-8 ride through a `String` as this character plus the byte (`U+10FF00` + 0x80 to 0xFF, the last
/// private-use plane, which no script uses).
const CARRIER: u32 = 0x10_FF00;

/// Class Cf (format characters) as of Unicode 15.1, frozen for `v` 1 of the format; first and last of each range.
const FORMAT: &[(u32, u32)] = &[
    (0xAD, 0xAD),
    (0x600, 0x605),
    (0x61C, 0x61C),
    (0x6DD, 0x6DD),
    (0x70F, 0x70F),
    (0x890, 0x891),
    (0x8E2, 0x8E2),
    (0x180E, 0x180E),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x2064),
    (0x2066, 0x206F),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0x1_10BD, 0x1_10BD),
    (0x1_10CD, 0x1_10CD),
    (0x1_3430, 0x1_343F),
    (0x1_BCA0, 0x1_BCA3),
    (0x1_D173, 0x1_D17A),
    (0xE_0001, 0xE_0001),
    (0xE_0020, 0xE_007F),
];

/// Bytes from outside as they stand in a record: for a caller who writes text that is *not* going into a
/// [`Draft`](crate::Draft) (a table, a log line).
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    escape_text(&outside(bytes))
}

/// Bytes from outside as raw text for a [`Draft`](crate::Draft)'s `reason`, `detail` or `exe`.
///
/// UTF-8 stays what it is; each byte that is not is carried by one character, which becomes `\xNN` when the record is
/// made. Use it for every file name, key comment or log field, and never `escape`, which would double the backslashes.
#[must_use]
pub fn outside(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if carried(c).is_some() {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| out.push(carry(b)));
            } else {
                out.push(c);
            }
        }
        chunk.invalid().iter().for_each(|&b| out.push(carry(b)));
    }
    out
}

fn carry(byte: u8) -> char {
    char::from_u32(CARRIER + u32::from(byte)).expect("U+10FF00 to U+10FFFF are characters")
}

/// The byte that this character carries, if it is one of ours.
fn carried(c: char) -> Option<u8> {
    u8::try_from(u32::from(c).checked_sub(CARRIER)?).ok().filter(|b| *b >= 0x80)
}

/// Raw text as it stands in a record.
pub(crate) fn escape_text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for c in raw.chars() {
        if let Some(byte) = carried(c) {
            push_hex(&mut out, byte);
        } else if c == '\\' {
            out.push_str("\\\\");
        } else if must_hide(c) {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| push_hex(&mut out, b));
        } else {
            out.push(c);
        }
    }
    out
}

fn push_hex(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push_str("\\x");
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

/// Classes Cc, Cf, Zl, Zp.
fn must_hide(c: char) -> bool {
    let code = u32::from(c);
    c.is_control()
        || c == '\u{2028}'
        || c == '\u{2029}'
        || FORMAT.iter().any(|&(first, last)| (first..=last).contains(&code))
}

/// Whether a character stands for itself in escaped text; a backslash never does.
#[must_use]
pub fn is_plain(c: char) -> bool {
    c != '\\' && !must_hide(c) && carried(c).is_none()
}

/// What marks a string that was cut: `\cut:` and how many bytes of escaped text are missing. No escaped text holds it.
pub(crate) const CUT: &str = "\\cut:";

/// Whether this could have come out of [`escape`], a cut at its end allowed.
#[must_use]
pub(crate) fn is_escaped(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let tail = &rest[at + 1..];
        rest = if let Some(after) = tail.strip_prefix('\\') {
            after
        } else if let Some(after) = tail.strip_prefix('x') {
            let hex = after.as_bytes().get(..2).is_some_and(|h| h.iter().all(|b| b"0123456789abcdef".contains(b)));
            if !hex {
                return false;
            }
            &after[2..]
        } else {
            let count = tail.strip_prefix("cut:");
            return count.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        };
    }
    !text.chars().any(|c| must_hide(c) || carried(c).is_some())
}

/// Cuts escaped text so that, written as a JSON string with its quotes, it takes at most `most` bytes, and says so at
/// its end. Never cuts inside a character or an escape. `most` under 32 counts as 32: the marker needs room.
pub(crate) fn cut(text: &str, most: usize) -> String {
    let most = most.max(32);
    if json_len(text) <= most {
        return text.to_owned();
    }
    let room = most - 2 - json_len_inside(CUT) - 20;
    let (mut end, mut taken) = (0, 0);
    while end < text.len() {
        let next = end + unit(&text[end..]);
        let cost = json_len_inside(&text[end..next]);
        if taken + cost > room {
            break;
        }
        (end, taken) = (next, taken + cost);
    }
    format!("{}{CUT}{}", &text[..end], text.len() - end)
}

/// Bytes of the first unit of escaped text: `\\`, `\xNN` or one character.
fn unit(text: &str) -> usize {
    match text.as_bytes() {
        [b'\\', b'\\', ..] => 2,
        [b'\\', b'x', _, _, ..] => 4,
        _ => text.chars().next().map_or(0, char::len_utf8),
    }
}

fn json_len_inside(text: &str) -> usize {
    text.len() + text.bytes().filter(|b| matches!(b, b'"' | b'\\')).count()
}

/// Bytes of this escaped text as a JSON string, quotes included.
pub(crate) fn json_len(text: &str) -> usize {
    json_len_inside(text) + 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads the escapes back: the proof that nothing is lost.
    fn unescape(text: &str) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let n = unit(rest);
            match &rest[..n] {
                "\\\\" => out.push(b'\\'),
                hex if n == 4 && hex.starts_with("\\x") => out.push(u8::from_str_radix(&hex[2..], 16).unwrap()),
                plain => out.extend_from_slice(plain.as_bytes()),
            }
            rest = &rest[n..];
        }
        out
    }

    #[test]
    fn what_could_forge_or_turn_a_line_becomes_hex() {
        assert_eq!(escape(b"a\nb\x7f\xff\\"), "a\\x0ab\\x7f\\xff\\\\");
        assert_eq!(escape("\u{202e}x\u{2028}\u{85}".as_bytes()), "\\xe2\\x80\\xaex\\xe2\\x80\\xa8\\xc2\\x85");
        assert_eq!(escape("Zoë 日本 ".as_bytes()), "Zoë 日本 ");
    }

    #[test]
    fn carrier_characters_from_outside_are_not_taken_for_bytes() {
        assert_eq!(escape("\u{10FF80}".as_bytes()), "\\xf4\\x8f\\xbe\\x80");
        assert_eq!(escape(&[0x80]), "\\x80");
    }

    #[test]
    fn half_an_escape_is_not_escaped_text() {
        for bad in ["\\", "\\x", "\\x4", "\\xZZ", "\\xAB", "\\n", "\\cut:", "\\cut:1 more", "a\tb", "\u{200b}"] {
            assert!(!is_escaped(bad), "{bad:?}");
        }
        assert!(is_escaped("a\\\\b\\x0a\\cut:12"));
    }

    proptest! {
        #[test]
        fn escaping_loses_nothing(bytes: Vec<u8>) {
            prop_assert_eq!(unescape(&escape(&bytes)), bytes);
        }

        #[test]
        fn escaping_text_loses_nothing_and_is_always_well_formed(text in "\\PC*|(\\\\|x|0|\u{202e}|\u{10FF90}|é){0,20}") {
            let escaped = escape(text.as_bytes());
            prop_assert!(is_escaped(&escaped));
            prop_assert_eq!(unescape(&escaped), text.as_bytes());
        }

        #[test]
        fn a_cut_keeps_its_bound_and_stays_well_formed(bytes: Vec<u8>, most in 32usize..200) {
            let escaped = escape(&bytes);
            let short = cut(&escaped, most);
            prop_assert!(is_escaped(&short));
            prop_assert!(json_len(&short) <= most);
            prop_assert!(json_len(&escaped) > most || short == escaped);
        }
    }
}
