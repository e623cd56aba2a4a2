//! Data files: TOML text to a checked catalog, each fault with its file and line.

use std::{collections::HashMap, fs, ops::Range, path::Path};

use jiff::SignedDuration;
use serde::Deserialize;
use toml::Spanned;

use super::{
    Catalog, Expected, ExpectedFrom, Framework, Kind, MAX_FILE, MAX_FILES, Need, Relation, Requirement,
    RequirementsError, Row, TypePattern,
};

/// The longest text of one field, in bytes.
const MAX_TEXT: usize = 2048;
/// The longest interval in which an artifact may be expected: ten years.
const MAX_EXPECTED: SignedDuration = SignedDuration::from_hours(10 * 366 * 24);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    framework: Option<FrameworkText>,
    #[serde(default)]
    requirement: Vec<RequirementText>,
    #[serde(default)]
    evidence: Vec<RowText>,
}

/// A framework; with its id alone: one that another file describes, which this file adds to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrameworkText {
    id: Spanned<String>,
    name: Option<String>,
    prefix: Option<Spanned<String>>,
    edition: Option<String>,
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequirementText {
    id: Spanned<String>,
    name: String,
    kind: Kind,
    part_of: Option<Spanned<String>>,
    need: Option<Need>,
    text: Spanned<String>,
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowText {
    types: Spanned<Vec<Spanned<String>>>,
    relation: Relation,
    requirements: Spanned<Vec<Spanned<String>>>,
    scope: Spanned<String>,
    does_not_show: Spanned<String>,
    expected_every: Option<Spanned<String>>,
    expected_from: Option<Spanned<ExpectedFrom>>,
}

/// The `*.toml` files of a directory, in the order of their names. None, when there is no such directory.
pub(super) fn read_directory(directory: &Path) -> Result<Vec<(String, String)>, RequirementsError> {
    let read = |path: &Path, source| RequirementsError::Read { path: path.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(read(directory, e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| read(directory, e))?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            paths.push(path);
        }
    }
    if paths.len() > MAX_FILES {
        let what = format!("{} files; at most {MAX_FILES} are read", paths.len());
        return Err(RequirementsError::TooMuch { path: directory.to_owned(), what });
    }
    paths.sort();
    let mut texts = Vec::new();
    for path in paths {
        let size = fs::metadata(&path).map_err(|e| read(&path, e))?.len();
        if size > MAX_FILE {
            return Err(RequirementsError::TooMuch {
                path,
                what: format!("{size} bytes; at most {MAX_FILE} are read"),
            });
        }
        let text = fs::read_to_string(&path).map_err(|e| read(&path, e))?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        texts.push((name, text));
    }
    Ok(texts)
}

/// One file's text, for saying where something stands in it.
#[derive(Clone, Copy)]
struct Place<'a> {
    file: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|b| **b == b'\n').count()
    }

    fn wrong(&self, at: &Range<usize>, what: String) -> RequirementsError {
        RequirementsError::Wrong { file: self.file.to_owned(), line: self.line(at.start), what }
    }
}

/// Checks all files against each other: requirements first, so that a row may name those of a later file.
pub(super) fn build(texts: &[(String, String)]) -> Result<Catalog, RequirementsError> {
    let mut catalog = Catalog::default();
    let mut files = Vec::new();
    for (file, text) in texts {
        let place = Place { file, text };
        let parsed: FileText =
            toml::from_str(text).map_err(|e| place.wrong(&e.span().unwrap_or(0..0), e.message().to_owned()))?;
        files.push((place, parsed));
    }
    for (place, parsed) in &files {
        if let Some(text) = parsed.framework.as_ref().filter(|f| f.name.is_some()) {
            let framework = framework(&catalog, *place, text)?;
            catalog.frameworks.push(framework);
        }
    }
    let mut stands = HashMap::new();
    for (place, parsed) in &files {
        add_requirements(&mut catalog, *place, parsed, &mut stands)?;
    }
    check_parents(&catalog, &files)?;
    let mut mapped = HashMap::new();
    for (place, parsed) in &files {
        for text in &parsed.evidence {
            let row = row(&catalog, *place, text, parsed.framework.as_ref().map(|f| f.id.get_ref().as_str()))?;
            check_once(&catalog, *place, text, &row, &mut mapped)?;
            catalog.rows.push(row);
        }
    }
    Ok(catalog)
}

fn framework(known: &Catalog, place: Place<'_>, text: &FrameworkText) -> Result<Framework, RequirementsError> {
    let at = text.id.span();
    let id = text.id.get_ref();
    if known.frameworks.iter().any(|f| f.id == *id) {
        let what = format!("framework {id:?} is described twice; to add to it, give its id alone");
        return Err(place.wrong(&at, what));
    }
    let (Some(name), Some(prefix), Some(edition)) = (&text.name, &text.prefix, &text.edition) else {
        return Err(place.wrong(&at, "a framework needs id, name, prefix and edition".to_owned()));
    };
    check_id(place, &text.id)?;
    check_id(place, prefix)?;
    Ok(Framework {
        id: id.clone(),
        name: name.clone(),
        prefix: prefix.get_ref().clone(),
        edition: edition.clone(),
        note: text.note.clone(),
    })
}

/// An id goes into a URL and onto a screen.
fn check_id(place: Place<'_>, id: &Spanned<String>) -> Result<(), RequirementsError> {
    let text = id.get_ref();
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"().-_:".contains(&b);
    if (1..=64).contains(&text.len()) && text.bytes().all(fine) {
        return Ok(());
    }
    Err(place.wrong(&id.span(), format!("{text:?} is no id: 1 to 64 of A-Z a-z 0-9 ( ) . - _ :")))
}

fn check_text(place: Place<'_>, text: &Spanned<String>) -> Result<(), RequirementsError> {
    let t = text.get_ref();
    if t.trim().is_empty() || t.len() > MAX_TEXT || t.contains(char::is_control) {
        return Err(place.wrong(&text.span(), format!("a text of 1 to {MAX_TEXT} bytes on one line has to stand here")));
    }
    Ok(())
}

fn add_requirements<'a>(
    catalog: &mut Catalog,
    place: Place<'a>,
    parsed: &FileText,
    stands: &mut HashMap<String, String>,
) -> Result<(), RequirementsError> {
    let Some(first) = parsed.requirement.first() else { return Ok(()) };
    let Some(text) = &parsed.framework else {
        let what = "a file with [[requirement]] needs a [framework]; to add to a known one, give its id alone";
        return Err(place.wrong(&first.id.span(), what.to_owned()));
    };
    let known = catalog.frameworks.iter().position(|f| f.id == *text.id.get_ref());
    let Some(framework) = known else {
        let what = format!("no file describes framework {:?}: name, prefix and edition are missing", text.id.get_ref());
        return Err(place.wrong(&text.id.span(), what));
    };
    for text in &parsed.requirement {
        check_id(place, &text.id)?;
        check_text(place, &text.text)?;
        let id = text.id.get_ref().clone();
        let reference = format!("{}{id}", catalog.frameworks[framework].prefix).to_ascii_lowercase();
        let here = format!("{}:{}", place.file, place.line(text.id.span().start));
        if let Some(before) = stands.insert(reference, here) {
            return Err(place.wrong(&text.id.span(), format!("requirement {id:?} stands at {before} already")));
        }
        catalog.requirements.push(Requirement {
            id,
            framework,
            name: text.name.clone(),
            kind: text.kind,
            part_of: text.part_of.as_ref().map(|p| p.get_ref().clone()),
            need: text.need,
            text: text.text.get_ref().clone(),
            note: text.note.clone(),
        });
    }
    Ok(())
}

fn check_parents(catalog: &Catalog, files: &[(Place<'_>, FileText)]) -> Result<(), RequirementsError> {
    for (place, parsed) in files {
        let own = parsed.framework.as_ref().map(|f| f.id.get_ref());
        for parent in parsed.requirement.iter().filter_map(|r| r.part_of.as_ref()) {
            let is_parent = |r: &Requirement| {
                r.id == *parent.get_ref() && r.part_of.is_none() && Some(&catalog.frameworks[r.framework].id) == own
            };
            if !catalog.requirements.iter().any(is_parent) {
                let what = format!("part_of names {:?}, which is no standard or control here", parent.get_ref());
                return Err(place.wrong(&parent.span(), what));
            }
        }
    }
    Ok(())
}

/// A row's ids are those of its file's own framework, where that has them, or of any.
fn row(catalog: &Catalog, place: Place<'_>, text: &RowText, own: Option<&str>) -> Result<Row, RequirementsError> {
    check_text(place, &text.scope)?;
    check_text(place, &text.does_not_show)?;
    if text.types.get_ref().is_empty() || text.requirements.get_ref().is_empty() {
        return Err(place.wrong(&text.types.span(), "types and requirements have to name at least one each".to_owned()));
    }
    let mut types = Vec::new();
    for given in text.types.get_ref() {
        types.push(TypePattern::parse(given.get_ref()).ok_or_else(|| {
            let what =
                "is no artifact type: words of a-z 0-9 _ parted by dots, and .* at the end for all that begin so";
            place.wrong(&given.span(), format!("{:?} {what}", given.get_ref()))
        })?);
    }
    let mut requirements = Vec::new();
    for given in text.requirements.get_ref() {
        let here =
            |r: &Requirement| r.id == *given.get_ref() && own == Some(catalog.frameworks[r.framework].id.as_str());
        let at = match catalog.requirements.iter().position(here) {
            Some(at) => at,
            None => catalog.place_of(given.get_ref()).map_err(|e| place.wrong(&given.span(), e.to_string()))?,
        };
        requirements.push(at);
    }
    Ok(Row {
        types,
        relation: text.relation,
        scope: text.scope.get_ref().clone(),
        does_not_show: text.does_not_show.get_ref().clone(),
        expected: expected(place, text)?,
        requirements,
    })
}

fn expected(place: Place<'_>, text: &RowText) -> Result<Option<Expected>, RequirementsError> {
    let (every, from) = match (&text.expected_every, &text.expected_from) {
        (None, None) => return Ok(None),
        (Some(every), Some(from)) => (every, *from.get_ref()),
        (one, other) => {
            let at = one.as_ref().map(Spanned::span).or(other.as_ref().map(Spanned::span)).unwrap_or(0..0);
            return Err(place.wrong(&at, "expected_every and expected_from go together".to_owned()));
        }
    };
    let wrong = || {
        let what = "is no interval from 1m to ten years; as 24h or 35d";
        place.wrong(&every.span(), format!("{:?} {what}", every.get_ref()))
    };
    let (number, unit) = every.get_ref().split_at_checked(every.get_ref().len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let every = SignedDuration::from_secs(number.checked_mul(seconds).ok_or_else(wrong)?);
    if every < SignedDuration::from_secs(60) || every > MAX_EXPECTED {
        return Err(wrong());
    }
    Ok(Some(Expected { every, from }))
}

/// One pattern says one thing about one requirement.
fn check_once(
    catalog: &Catalog,
    place: Place<'_>,
    text: &RowText,
    row: &Row,
    mapped: &mut HashMap<(String, usize), String>,
) -> Result<(), RequirementsError> {
    for (given, pattern) in text.types.get_ref().iter().zip(&row.types) {
        for at in &row.requirements {
            let here = format!("{}:{}", place.file, place.line(given.span().start));
            if let Some(before) = mapped.insert((pattern.as_str().to_owned(), *at), here) {
                let id = &catalog.requirements[*at].id;
                let what = format!("{:?} is mapped to {id} at {before} already", pattern.as_str());
                return Err(place.wrong(&given.span(), what));
            }
        }
    }
    Ok(())
}
