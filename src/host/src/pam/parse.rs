//! PAM files into one stack, as libpam's `_pam_init_handlers` reads them.

use std::{collections::BTreeSet, fmt, io, path::Path, path::PathBuf};

use super::{Step, Why};
use crate::sshd::scan::{Files, Place};

/// How deep files may include one another.
const MAX_DEPTH: usize = 16;
/// The most lines of one stack.
const MAX_LINES: usize = 2000;
/// Where modules live: a path elsewhere is not the module of that name.
const MODULE_DIRS: [&str; 3] = ["/lib/", "/usr/lib/", "/lib64/"];
/// Every return value that a control can name (pam.conf(5)).
pub(super) const VALUES: [&str; 32] = [
    "success",
    "open_err",
    "symbol_err",
    "service_err",
    "system_err",
    "buf_err",
    "perm_denied",
    "auth_err",
    "cred_insufficient",
    "authinfo_unavail",
    "user_unknown",
    "maxtries",
    "new_authtok_reqd",
    "acct_expired",
    "session_err",
    "cred_unavail",
    "cred_expired",
    "cred_err",
    "no_module_data",
    "conv_err",
    "authtok_err",
    "authtok_recover_err",
    "authtok_lock_busy",
    "authtok_disable_aging",
    "try_again",
    "ignore",
    "abort",
    "authtok_expired",
    "module_unknown",
    "bad_item",
    "conv_again",
    "incomplete",
];

/// What to do on one return value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// As if the module were not there.
    Ignore,
    /// Count as well, go on.
    Ok,
    /// Count as failed, go on.
    Bad,
    /// Count as well, end here.
    Done,
    /// Count as failed, end here.
    Die,
    /// Forget what has been counted.
    Reset,
    /// Leave out so many modules.
    Jump(usize),
}

/// What a line does on each return value: in the order of `VALUES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control(pub(super) Vec<Action>);

/// One module in a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it stands.
    pub place: Place,
    /// How many substacks it is in.
    pub depth: usize,
    /// What its results lead to.
    pub control: Control,
    /// The module's file name, without its directory where that is one of modules.
    pub module: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// As it was written, from the control on, with single blanks.
    text: String,
}

impl Line {
    /// What stands for a substack as a whole, before its lines: a jump counts it as one module.
    fn substack(tokens: &[String], place: Place, depth: usize) -> Self {
        let control = Control(vec![Action::Ignore; VALUES.len()]);
        Self { place, depth, control, module: String::new(), args: Vec::new(), text: tokens.join(" ") }
    }

    /// Whether a result of its module can have the stack fail.
    pub(crate) fn can_fail(&self) -> bool {
        self.control.0.iter().any(|action| matches!(action, Action::Bad | Action::Die))
    }

    /// Whether this calls the same module with the same arguments and treats results the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.control == other.control && self.module == other.module && self.args == other.args
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The modules of one step of one service, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stack {
    /// The modules.
    pub lines: Vec<Line>,
    /// The files they come from.
    pub files: BTreeSet<PathBuf>,
}

/// Reads a file and what it includes.
pub(super) fn stack(files: &dyn Files, path: &Path, step: Step) -> Result<Stack, Why> {
    let mut stack = Stack::default();
    file(files, path, step, (0, 0), &mut stack)?;
    Ok(stack)
}

/// Reads one line as it stands after the first column.
pub(super) fn line(text: &str) -> Result<Line, String> {
    let tokens = tokens(text);
    module_line(&tokens, Place { file: PathBuf::new(), line: 0 }, 0)
}

fn file(
    files: &dyn Files,
    path: &Path,
    step: Step,
    (level, depth): (usize, usize),
    stack: &mut Stack,
) -> Result<(), Why> {
    let fail = |line: usize, what: String| Why::Unreadable { place: Place { file: path.to_owned(), line }, what };
    if level > MAX_DEPTH {
        return Err(fail(0, format!("more than {MAX_DEPTH} levels of include")));
    }
    stack.files.insert(path.to_owned());
    let content = files.read(path).map_err(|error: io::Error| fail(0, error.to_string()))?;
    let content = String::from_utf8(content).map_err(|_| fail(0, "not UTF-8".to_owned()))?;
    for (number, text) in logical_lines(&content) {
        let tokens = tokens(&text);
        let Some(kind) = tokens.first() else { continue };
        if kind == "@include" {
            let target = tokens.get(1).ok_or_else(|| fail(number, "@include of nothing".to_owned()))?;
            file(files, &beside(target), step, (level + 1, depth), stack)?;
            continue;
        }
        if !kind.trim_start_matches('-').eq_ignore_ascii_case(step.as_str()) {
            continue;
        }
        match (tokens.get(1).map(|word| word.to_ascii_lowercase()).as_deref(), tokens.get(2)) {
            (Some("include"), Some(target)) => file(files, &beside(target), step, (level + 1, depth), stack)?,
            (Some("substack"), Some(target)) => {
                let place = Place { file: path.to_owned(), line: number };
                stack.lines.push(Line::substack(&tokens[1..], place, depth));
                file(files, &beside(target), step, (level + 1, depth + 1), stack)?;
            }
            _ => {
                let place = Place { file: path.to_owned(), line: number };
                stack.lines.push(module_line(&tokens[1..], place, depth).map_err(|what| fail(number, what))?);
            }
        }
        if stack.lines.len() > MAX_LINES {
            return Err(fail(number, format!("more than {MAX_LINES} lines in one stack")));
        }
    }
    Ok(())
}

fn beside(target: &str) -> PathBuf {
    Path::new(super::DIRECTORIES[0]).join(target)
}

/// Lines without comments, joined where a backslash ends one, each with the number of its first.
fn logical_lines(content: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, raw) in content.lines().enumerate() {
        let text = raw.split('#').next().unwrap_or_default();
        let (number, mut so_far) = open.take().unwrap_or((index + 1, String::new()));
        match text.trim_end().strip_suffix('\\') {
            Some(text) => {
                so_far.push_str(text);
                so_far.push(' ');
                open = Some((number, so_far));
            }
            None => {
                so_far.push_str(text);
                found.push((number, so_far));
            }
        }
    }
    found.extend(open);
    found
}

/// Words at blanks; a word in brackets may have blanks in it, and `\]` stands for `]`.
fn tokens(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = chars.peek().copied() else { return words };
        let mut word = String::new();
        if first == '[' {
            while let Some(c) = chars.next() {
                match c {
                    '\\' if chars.peek() == Some(&']') => word.extend(chars.next()),
                    _ => word.push(c),
                }
                if c == ']' {
                    break;
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
        }
        words.push(word);
    }
}

fn module_line(tokens: &[String], place: Place, depth: usize) -> Result<Line, String> {
    let [word, path, args @ ..] = tokens else { return Err("a line without a module".to_owned()) };
    let control = control(word)?;
    let path_text = path.as_str();
    let in_module_dir = MODULE_DIRS.iter().any(|dir| path_text.starts_with(dir)) && path_text.contains("/security/");
    let module = match path_text.rsplit_once('/') {
        Some((_, name)) if in_module_dir && !path_text.contains("/../") => name,
        _ => path_text,
    };
    let args = args.iter().map(|arg| match arg.strip_prefix('[').and_then(|arg| arg.strip_suffix(']')) {
        Some(inner) => inner.to_owned(),
        None => arg.clone(),
    });
    Ok(Line { place, depth, control, module: module.to_owned(), args: args.collect(), text: tokens.join(" ") })
}

fn control(word: &str) -> Result<Control, String> {
    let spelled = match word.to_ascii_lowercase().as_str() {
        "required" => "success=ok new_authtok_reqd=ok ignore=ignore default=bad",
        "requisite" => "success=ok new_authtok_reqd=ok ignore=ignore default=die",
        "sufficient" => "success=done new_authtok_reqd=done default=ignore",
        "optional" => "success=ok new_authtok_reqd=ok default=ignore",
        _ => match word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
            Some(inner) => inner,
            None => return Err(format!("{word:?} is no control that libpam knows")),
        },
    };
    let mut named: [Option<Action>; VALUES.len()] = [None; VALUES.len()];
    let mut default = None;
    // Blanks may stand around the equals sign.
    let spelled = spelled.split('=').map(str::trim).collect::<Vec<_>>().join("=");
    for pair in spelled.split_whitespace() {
        let (value, action) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not value=action"))?;
        let action = action_of(action).ok_or_else(|| format!("{action:?} is no action that libpam knows"))?;
        match VALUES.iter().position(|known| *known == value) {
            Some(index) => named[index] = Some(action),
            None if value == "default" => default = Some(action),
            None => return Err(format!("{value:?} is no return value that libpam knows")),
        }
    }
    let default = default.unwrap_or(Action::Bad);
    Ok(Control(named.into_iter().map(|action| action.unwrap_or(default)).collect()))
}

fn action_of(word: &str) -> Option<Action> {
    Some(match word {
        "ignore" => Action::Ignore,
        "ok" => Action::Ok,
        "bad" => Action::Bad,
        "done" => Action::Done,
        "die" => Action::Die,
        "reset" => Action::Reset,
        number => Action::Jump(number.parse().ok()?),
    })
}
