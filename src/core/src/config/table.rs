//! Reads typed values out of a TOML table and complains by place. What is asked for is what is known:
//! every key that nobody has asked for is an unknown key. This never gives a meaning to a value.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{Problems, quoted},
    place::{Located, Place, Source},
};

/// The most entries that any one list may have.
pub const MAX_LIST: usize = 20_000;

/// Keys that are this many edits away are offered as what may have been meant.
const NEAR: usize = 3;

/// One table of one file.
pub(super) struct Table<'t> {
    /// How the table is headed: `[grants]`, `[[person]]`; empty at the top of a file.
    heading: &'static str,
    entries: &'t DeTable<'t>,
    source: &'t Source<'t>,
    /// Where the table begins.
    pub(super) place: Place,
    known: Vec<&'static str>,
}

impl<'t> Table<'t> {
    pub(super) fn top(source: &'t Source<'t>, entries: &'t DeTable<'t>) -> Self {
        Self { heading: "", entries, source, place: source.whole(), known: Vec::new() }
    }

    fn find(&mut self, key: &'static str) -> Option<(&'t DeValue<'t>, Place)> {
        self.known.push(key);
        let value = self.entries.get(key)?;
        Some((value.get_ref(), self.source.place(value.span().start)))
    }

    /// Complains about every key that was not asked for; gives back what is known: heading and keys.
    pub(super) fn end(self, problems: &mut Problems) -> (&'static str, Vec<&'static str>) {
        let mut unknown: Vec<_> =
            self.entries.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())).collect();
        unknown.sort_by_key(|key| key.span().start);
        for key in unknown {
            let name = key.get_ref();
            let wanted = match nearest(name, &self.known) {
                Some(near) => format!("did you mean {near}? valid here: {}", self.known.join(", ")),
                None => format!("valid here: {}", self.known.join(", ")),
            };
            let within = if self.heading.is_empty() { String::new() } else { format!(" in {}", self.heading) };
            problems.add(&self.source.place(key.span().start), format!("unknown key {}{within}", quoted(name)), wanted);
        }
        (self.heading, self.known)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn string(&mut self, key: &'static str, problems: &mut Problems) -> Option<Located<&'t str>> {
        let (value, place) = self.find(key)?;
        match value.as_str() {
            Some(text) => Some(Located { value: text, place }),
            None => wrong_type(key, value, &place, "a string in double quotes", problems),
        }
    }

    pub(super) fn boolean(&mut self, key: &'static str, problems: &mut Problems) -> Option<Located<bool>> {
        let (value, place) = self.find(key)?;
        match value.as_bool() {
            Some(value) => Some(Located { value, place }),
            None => wrong_type(key, value, &place, "true or false, without quotes", problems),
        }
    }

    pub(super) fn integer(&mut self, key: &'static str, problems: &mut Problems) -> Option<Located<u64>> {
        const WANTED: &str = "a whole number, without quotes";
        let (value, place) = self.find(key)?;
        let read = value.as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        match read {
            Some(value) => Some(Located { value, place }),
            None => wrong_type(key, value, &place, WANTED, problems),
        }
    }

    pub(super) fn strings(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<Located<Vec<Located<&'t str>>>> {
        const WANTED: &str = "a list of strings, as [\"one\", \"two\"]";
        let (value, place) = self.find(key)?;
        let Some(list) = value.as_array() else {
            return wrong_type(key, value, &place, WANTED, problems);
        };
        let mut texts = Vec::new();
        for entry in bounded(key, list, &place, problems) {
            let entry_place = self.source.place(entry.span().start);
            match entry.get_ref().as_str() {
                Some(text) => texts.push(Located { value: text, place: entry_place }),
                None => wrong_type(key, entry.get_ref(), &entry_place, WANTED, problems).unwrap_or(()),
            }
        }
        Some(Located { value: texts, place })
    }

    /// Every key of the table with its string, whatever the keys are.
    pub(super) fn named_strings(&mut self, problems: &mut Problems) -> Vec<(String, Located<&'t str>)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let read = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &'t Spanned<DeValue<'t>>)| {
            let place = self.source.place(key.span().start);
            let name = key.get_ref().as_ref();
            match value.get_ref().as_str() {
                Some(text) => Some((name.to_owned(), Located { value: text, place })),
                None => wrong_type(&quoted(name), value.get_ref(), &place, "a string in double quotes", problems),
            }
        };
        entries.into_iter().filter_map(read).collect()
    }

    pub(super) fn table(
        &mut self,
        key: &'static str,
        heading: &'static str,
        problems: &mut Problems,
    ) -> Option<Table<'t>> {
        let (value, place) = self.find(key)?;
        match value.as_table() {
            Some(entries) => Some(self.inner(heading, entries, place)),
            None => wrong_type(key, value, &place, &format!("a table headed {heading}"), problems),
        }
    }

    /// The tables of a list such as `[[person]]`; none where the key is absent.
    pub(super) fn tables(
        &mut self,
        key: &'static str,
        heading: &'static str,
        problems: &mut Problems,
    ) -> Vec<Table<'t>> {
        let wanted = format!("tables, each headed {heading}");
        let Some((value, place)) = self.find(key) else { return Vec::new() };
        let Some(list) = value.as_array() else {
            return wrong_type(key, value, &place, &wanted, problems).unwrap_or_default();
        };
        let mut tables = Vec::new();
        for entry in bounded(key, list, &place, problems) {
            let place = self.source.place(entry.span().start);
            match entry.get_ref().as_table() {
                Some(entries) => tables.push(self.inner(heading, entries, place)),
                None => wrong_type(key, entry.get_ref(), &place, &wanted, problems).unwrap_or(()),
            }
        }
        tables
    }

    fn inner(&self, heading: &'static str, entries: &'t DeTable<'t>, place: Place) -> Table<'t> {
        Table { heading, entries, source: self.source, place, known: Vec::new() }
    }
}

fn bounded<'l, T>(key: &str, list: &'l [T], place: &Place, problems: &mut Problems) -> &'l [T] {
    if list.len() > MAX_LIST {
        problems.add(place, format!("{key} has {} entries", list.len()), format!("at most {MAX_LIST} are taken"));
    }
    &list[..list.len().min(MAX_LIST)]
}

fn wrong_type<T>(key: &str, value: &DeValue<'_>, place: &Place, wanted: &str, problems: &mut Problems) -> Option<T> {
    problems.add(place, format!("{key} is of type {}", value.type_str()), format!("write {wanted}"));
    None
}

/// Reads a file's text as TOML, complaining about every syntax error.
pub(super) fn parse<'t>(source: &'t Source<'t>, problems: &mut Problems) -> Option<Spanned<DeTable<'t>>> {
    let (table, errors) = DeTable::parse_recoverable(source.text);
    for error in &errors {
        let place = error.span().map_or_else(|| source.whole(), |span| source.place(span.start));
        let what = error.message().replace('\n', ", ");
        problems.add_unread(&place, format!("no valid TOML: {}", what.escape_debug()), "");
    }
    errors.is_empty().then_some(table)
}

fn nearest(given: &str, known: &[&'static str]) -> Option<&'static str> {
    let given: Vec<char> = given.chars().take(super::error::MAX_QUOTED).collect();
    let (edits, key) = known.iter().map(|key| (distance(&given, key), *key)).min()?;
    (edits <= NEAR && edits < key.len()).then_some(key)
}

/// Levenshtein's distance, row by row.
fn distance(given: &[char], known: &str) -> usize {
    let mut row: Vec<usize> = (0..=given.len()).collect();
    for (i, k) in known.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, g) in given.iter().enumerate() {
            let kept = diagonal + usize::from(*g != k);
            diagonal = row[j + 1];
            row[j + 1] = kept.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[given.len()]
}
