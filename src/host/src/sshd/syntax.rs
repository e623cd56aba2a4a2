//! One line of sshd_config(5), split by sshd's own rules (`strdelim` and `argv_split` in its misc.c).
//!
//! Pure. Where a line cannot be split, sshd refuses the whole file, so the caller must not act as if it were not there.

/// A line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The keyword, in lower case.
    pub keyword: String,
    /// Its arguments, unquoted.
    pub args: Vec<String>,
}

/// A line that sshd refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// A quoted argument has no end.
    #[error("a quote is not closed")]
    OpenQuote,
    /// Not UTF-8: whatever sshd makes of it, we cannot name it.
    #[error("the line is not UTF-8")]
    NotUtf8,
}

/// Splits one line without its newline; `None` for a blank line or a comment.
///
/// # Errors
/// When sshd would refuse the line, or we cannot read it.
pub fn parse_line(line: &[u8]) -> Result<Option<Directive>, SyntaxError> {
    let line = line.split(|b| *b == 0).next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| SyntaxError::NotUtf8)?;
    let line = line.trim_end_matches([' ', '\t', '\r', '\n', '\x0c']).trim_start_matches([' ', '\t', '\r']);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (keyword, rest) = split_keyword(line)?;
    if keyword.is_empty() {
        return Ok(None);
    }
    Ok(Some(Directive { keyword: keyword.to_ascii_lowercase(), args: split_args(rest)? }))
}

/// The keyword ends at a blank or at one `=`; it may be quoted.
fn split_keyword(line: &str) -> Result<(&str, &str), SyntaxError> {
    if let Some(quoted) = line.strip_prefix('"') {
        return quoted.split_once('"').ok_or(SyntaxError::OpenQuote);
    }
    let end = line.find([' ', '\t', '\r', '"', '=']).unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let blanks = [' ', '\t', '\r'];
    let rest = rest.trim_start_matches(blanks);
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start_matches(blanks);
    Ok((keyword, rest))
}

/// Splits arguments at blanks; quotes of both kinds group, a backslash escapes quotes, itself and, outside of quotes, a
/// blank; a `#` where an argument would start ends the line.
///
/// # Errors
/// [`SyntaxError::OpenQuote`].
pub fn split_args(text: &str) -> Result<Vec<String>, SyntaxError> {
    let mut args = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        if chars.peek().is_none_or(|c| *c == '#') {
            return Ok(args);
        }
        let (mut arg, mut quote) = (String::new(), None);
        while let Some(c) = chars.next_if(|c| quote.is_some() || !matches!(c, ' ' | '\t')) {
            match (c, quote) {
                ('\\', _) => {
                    let escaped = |c: &char| matches!(c, '\'' | '"' | '\\') || (quote.is_none() && *c == ' ');
                    arg.push(chars.next_if(escaped).unwrap_or('\\'));
                }
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, _) => arg.push(c),
            }
        }
        if quote.is_some() {
            return Err(SyntaxError::OpenQuote);
        }
        args.push(arg);
    }
}

/// Writes an argument so that [`split_args`], and sshd, read it back; `None` when it holds what no quoting can carry.
#[must_use]
pub fn quote(arg: &str) -> Option<String> {
    if arg.contains(|c: char| c.is_control()) {
        return None;
    }
    let plain = !arg.is_empty() && arg.chars().all(|c| c.is_alphanumeric() || "/._-%+:@,*?[]~{}".contains(c));
    Some(match plain {
        true => arg.to_owned(),
        false => format!("\"{}\"", arg.replace('\\', "\\\\").replace('"', "\\\"")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> (String, Vec<String>) {
        let directive = parse_line(line.as_bytes()).expect("readable").expect("a directive");
        (directive.keyword, directive.args)
    }

    #[test]
    fn a_line_is_split_as_sshd_splits_it() {
        for (line, keyword, args) in [
            ("Port 22", "port", &["22"][..]),
            ("  \tPORT\t22  \x0c\r", "port", &["22"]),
            ("Port=22", "port", &["22"]),
            ("Port = 22", "port", &["22"]),
            ("Port  =22", "port", &["22"]),
            ("Port = =22", "port", &["=22"]),
            ("AuthorizedKeysFile a  b # c d", "authorizedkeysfile", &["a", "b"]),
            ("AuthorizedKeysFile a#b", "authorizedkeysfile", &["a#b"]),
            ("AuthorizedKeysFile \"a b\" 'c \"d'", "authorizedkeysfile", &["a b", "c \"d"]),
            ("AuthorizedKeysFile a\\ b \\x \"q\\\"r\"", "authorizedkeysfile", &["a b", "\\x", "q\"r"]),
            ("AuthorizedKeysFile pre\"mid dle\"post", "authorizedkeysfile", &["premid dlepost"]),
            ("AuthorizedKeysFile \"\"", "authorizedkeysfile", &[""]),
            ("\"AuthorizedKeysFile\" x", "authorizedkeysfile", &["x"]),
            ("AuthorizedKeysFile", "authorizedkeysfile", &[]),
            ("Match User frank", "match", &["User", "frank"]),
        ] {
            assert_eq!(read(line), (keyword.to_owned(), args.iter().map(|a| (*a).to_owned()).collect()), "{line}");
        }
    }

    #[test]
    fn blank_lines_and_comments_say_nothing() {
        for line in ["", "  ", "# Port 22", "   # Port 22", "\t\r"] {
            assert_eq!(parse_line(line.as_bytes()), Ok(None), "{line:?}");
        }
    }

    #[test]
    fn a_quote_without_an_end_is_refused() {
        assert_eq!(parse_line(b"AuthorizedKeysFile \"a"), Err(SyntaxError::OpenQuote));
        assert_eq!(parse_line(b"\"AuthorizedKeysFile a"), Err(SyntaxError::OpenQuote));
        assert_eq!(parse_line(b"Banner \xff"), Err(SyntaxError::NotUtf8));
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        for arg in ["a", "a b", "", "a\"b", "a\\b", "#x", "/etc/ssh/keys/%u", "it's"] {
            assert_eq!(split_args(&quote(arg).expect("quotable")), Ok(vec![arg.to_owned()]), "{arg}");
        }
        assert_eq!(quote("a\nMatch all"), None);
    }
}
