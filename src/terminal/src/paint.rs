//! Colour and room on a terminal, and nothing at all elsewhere: what is piped, or asked for as JSON, is the bare text.

use std::io::IsTerminal;

use unicode_width::UnicodeWidthChar;

/// What a piece of text is to the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// In order.
    Good,
    /// Worth a look.
    Notice,
    /// To be acted on.
    Bad,
    /// There to be read past.
    Quiet,
    /// A heading.
    Strong,
}

impl Tone {
    /// The parameters of "Select Graphic Rendition" (ECMA-48): of the sixteen colours that every terminal has.
    fn parameters(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Notice => "33",
            Self::Bad => "1;31",
            Self::Quiet => "2",
            Self::Strong => "1",
        }
    }
}

/// The fewest characters that text is broken to: a terminal may say that it has none.
const LEAST_ROOM: usize = 20;

/// Whether there is colour, and how much room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    colour: bool,
    columns: Option<usize>,
}

impl Paint {
    /// Bare text.
    pub const NONE: Self = Self { colour: false, columns: None };

    /// Colour if standard output is a terminal that has it and nobody said no (<https://no-color.org>).
    #[must_use]
    pub fn of_stdout(json: bool) -> Self {
        let said = |name: &str| std::env::var_os(name).unwrap_or_default();
        let is_terminal = !json && std::io::stdout().is_terminal();
        // Its rows do not matter: stty(1) and some consoles leave them at 0.
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok().filter(|_| is_terminal);
        let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        Self { columns, ..Self::judge(is_terminal, !said("NO_COLOR").is_empty(), &said("TERM")) }
    }

    fn judge(is_terminal: bool, said_no: bool, term: &std::ffi::OsStr) -> Self {
        Self { colour: is_terminal && !said_no && !term.is_empty() && term != "dumb", columns: None }
    }

    /// How many characters a line of the terminal has; `None`: no end.
    #[must_use]
    pub fn columns(self) -> Option<usize> {
        self.columns
    }

    /// Text broken at blanks, so that each line fits behind `indent` characters, which stand before all lines but the first. What
    /// has no blank and does not fit is broken anywhere.
    #[must_use]
    pub fn wrap(self, text: &str, indent: usize) -> String {
        let room = self.columns.map_or(usize::MAX, |columns| columns.saturating_sub(indent).max(LEAST_ROOM));
        let mut lines = vec![String::new()];
        for word in text.split(' ') {
            let line = lines.last_mut().expect("there is always one");
            match width(line).saturating_add(1 + width(word)) <= room || line.is_empty() {
                true if line.is_empty() => line.push_str(word),
                true => line.extend([" ", word]),
                false => lines.push(word.to_owned()),
            }
            while let Some(rest) = lines.last_mut().and_then(|line| past(line, room)) {
                lines.push(rest);
            }
        }
        lines.join(&format!("\n{:indent$}", ""))
    }

    /// A terminal without colour, of this many characters a line: for tests.
    #[must_use]
    pub fn of_columns(columns: usize) -> Self {
        Self { columns: Some(columns), ..Self::NONE }
    }

    /// The text in its tone. It must be safe for a terminal already.
    #[must_use]
    pub fn tone(self, tone: Tone, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", tone.parameters())
        } else {
            text.to_owned()
        }
    }

    /// As [`Paint::tone`], where there is a tone.
    #[must_use]
    pub fn maybe(self, tone: Option<Tone>, text: &str) -> String {
        tone.map_or_else(|| text.to_owned(), |tone| self.tone(tone, text))
    }
}

/// How many columns of a terminal a text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// What of a line is past its room, taken off it.
fn past(line: &mut String, room: usize) -> Option<String> {
    let mut width = 0;
    let too_far = |(_, c): &(usize, char)| {
        width += c.width().unwrap_or(0);
        width > room
    };
    let at = line.char_indices().find(too_far)?.0;
    Some(line.split_off(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_colour_on_a_terminal_only_and_only_if_nobody_said_no() {
        for (is_terminal, said_no, term, colour) in [
            (true, false, "xterm-256color", true),
            (false, false, "xterm", false),
            (true, true, "xterm", false),
            (true, false, "dumb", false),
            (true, false, "", false),
        ] {
            assert_eq!(
                Paint::judge(is_terminal, said_no, term.as_ref()),
                Paint { colour, columns: None },
                "{is_terminal} {said_no} {term}"
            );
        }
    }

    #[test]
    fn text_is_broken_at_blanks_where_a_terminal_ends_and_nowhere_else() {
        let text = "one two three four five, six";
        assert_eq!(Paint::NONE.wrap(text, 4), text);
        assert_eq!(Paint::of_columns(80).wrap(text, 4), text);
        assert_eq!(Paint::of_columns(24).wrap(text, 4), "one two three four\n    five, six");
        assert_eq!(
            Paint::of_columns(1).wrap(&"x".repeat(30), 4),
            format!("{}\n    {}", "x".repeat(20), "x".repeat(10))
        );
        assert_eq!(Paint::of_columns(24).wrap(&"漢".repeat(12), 4), format!("{}\n    漢漢", "漢".repeat(10)));
        assert_eq!(Paint::of_columns(30).wrap("a  b", 0), "a  b");
    }

    #[test]
    fn without_colour_the_text_is_bare() {
        assert_eq!(Paint::NONE.tone(Tone::Bad, "x"), "x");
        assert_eq!(Paint { colour: true, ..Paint::NONE }.tone(Tone::Bad, "x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(Paint { colour: true, ..Paint::NONE }.tone(Tone::Bad, ""), "");
    }
}
