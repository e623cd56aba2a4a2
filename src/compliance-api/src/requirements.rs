//! The catalog: which frameworks ask for what, and which artifact types say something about it.
//!
//! Read once at start from data files, checked whole, and never changed after. It knows no store and no clock.

mod file;

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The files that are compiled in, by name: a file of the same name in the directory of one's own takes its place.
const BUILT_IN: [(&str, &str); 4] = [
    ("hipaa.toml", include_str!("../requirements/hipaa.toml")),
    ("nist-800-53-r5.toml", include_str!("../requirements/nist-800-53-r5.toml")),
    ("soc-2.toml", include_str!("../requirements/soc-2.toml")),
    ("pci-dss-4.toml", include_str!("../requirements/pci-dss-4.toml")),
];
/// The most files that are read from the directory of one's own.
pub const MAX_FILES: usize = 64;
/// The largest such file, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

/// One body of requirements, with its edition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Framework {
    /// Its id, a word.
    #[schema(example = "hipaa")]
    pub id: String,
    /// Its name.
    pub name: String,
    /// What stands before an id to make it a full reference.
    #[schema(example = "45-cfr-")]
    pub prefix: String,
    /// Which edition the texts and ids are of.
    pub edition: String,
    /// What a reader has to know besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a requirement is called in its framework.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A standard of the Security Rule.
    Standard,
    /// An implementation specification of a standard.
    Specification,
    /// A control of a catalog.
    Control,
    /// An enhancement of a control.
    Enhancement,
    /// A criterion of SOC 2.
    Criterion,
    /// A numbered requirement of PCI DSS.
    Requirement,
}

/// How binding a requirement is, where its framework says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// It has to be done.
    Required,
    /// It has to be done, or it has to be written down why not and what is done in its place.
    Addressable,
}

/// One requirement, in our own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Its id in its framework, as `164.312(a)(2)(i)`.
    pub id: String,
    /// Where its framework stands in the catalog.
    pub framework: usize,
    /// Its name.
    pub name: String,
    /// What it is called there.
    pub kind: Kind,
    /// The id of the standard or control it belongs to.
    pub part_of: Option<String>,
    /// How binding it is; none for a standard that is met by its specifications.
    pub need: Option<Need>,
    /// What it asks for.
    pub text: String,
    /// What a reader has to know besides.
    pub note: Option<String>,
}

/// How evidence bears on a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Direct evidence that the safeguard operated, within the stated scope; never a legal conclusion.
    Satisfies,
    /// It helps to show it, beside other evidence.
    Supports,
}

/// An artifact type, or all that begin alike: `session.opened`, `ledger.*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypePattern(String);

impl TypePattern {
    /// `[a-z0-9_]+` parted by dots, the last of which may be `*`.
    pub fn parse(text: &str) -> Option<Self> {
        let stem = text.strip_suffix(".*").unwrap_or(text);
        let word =
            |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        (text.len() <= 64 && stem.split('.').all(word)).then(|| Self(text.to_owned()))
    }

    /// As it stands in the file.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an artifact of this type is meant.
    pub fn matches(&self, kind: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => kind.starts_with(start),
            None => self.0 == kind,
        }
    }
}

/// From whom artifacts of a row have to keep coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpectedFrom {
    /// From each host that has not stopped.
    EachHost,
    /// From anybody at all.
    Anyone,
}

/// How often artifacts of a row are expected, and from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// At least one in this long.
    pub every: SignedDuration,
    /// From whom.
    pub from: ExpectedFrom,
}

/// One row of a file: what these types say about these requirements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The types.
    pub types: Vec<TypePattern>,
    /// The relation.
    pub relation: Relation,
    /// Within what bounds the relation holds.
    pub scope: String,
    /// What these artifacts leave open.
    pub does_not_show: String,
    /// None where artifacts come as things happen, so that none may be a good sign.
    pub expected: Option<Expected>,
    /// Which requirements, by their place in the catalog.
    requirements: Vec<usize>,
}

/// A data file that cannot be used, and where it is wrong.
#[derive(Debug, thiserror::Error)]
pub enum RequirementsError {
    /// The directory or a file in it cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// More files than are read, or a larger one.
    #[error("{path}: {what}", path = path.display())]
    TooMuch {
        /// Which.
        path: PathBuf,
        /// What there is too much of.
        what: String,
    },
    /// What a file says is wrong.
    #[error("{file}:{line}: {what}")]
    Wrong {
        /// Its name.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what would do.
        what: String,
    },
}

/// No requirement, or more than one, goes by this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// None.
    #[error("there is no requirement {0:?}; GET /v1/requirements lists them, as 164.312(a)(2)(i) or AC-2")]
    Unknown(String),
    /// Several frameworks have one.
    #[error("more than one framework has a requirement {given:?}; ask for one of: {list}", list = full.join(" "))]
    Ambiguous {
        /// What was asked for.
        given: String,
        /// The full references.
        full: Vec<String>,
    },
}

/// Every framework, requirement and row, checked against each other.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Catalog {
    frameworks: Vec<Framework>,
    requirements: Vec<Requirement>,
    rows: Vec<Row>,
}

impl Catalog {
    /// Reads what is compiled in and, in the order of their names, the `*.toml` files of a directory, where there is one.
    ///
    /// # Errors
    /// On the first file that cannot be read or says something wrong, with its line.
    pub fn load(directory: Option<&Path>) -> Result<Self, RequirementsError> {
        let own = match directory {
            Some(directory) => file::read_directory(directory)?,
            None => Vec::new(),
        };
        let kept = BUILT_IN.iter().filter(|(name, _)| !own.iter().any(|(own, _)| own == name));
        let mut texts: Vec<(String, String)> = kept.map(|(name, text)| (name.to_string(), text.to_string())).collect();
        texts.extend(own);
        file::build(&texts)
    }

    /// The frameworks.
    pub fn frameworks(&self) -> &[Framework] {
        &self.frameworks
    }

    /// Every requirement, in the order of the files.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// A requirement's framework.
    pub fn framework_of(&self, requirement: &Requirement) -> &Framework {
        &self.frameworks[requirement.framework]
    }

    /// A requirement's full reference: `45-cfr-164.312(d)`.
    pub fn reference(&self, requirement: &Requirement) -> String {
        format!("{}{}", self.framework_of(requirement).prefix, requirement.id)
    }

    /// The requirement of this id or full reference, in either case.
    ///
    /// # Errors
    /// When there is none, or when an id without its prefix stands in several frameworks.
    pub fn find(&self, given: &str) -> Result<&Requirement, LookupError> {
        self.place_of(given).map(|at| &self.requirements[at])
    }

    fn place_of(&self, given: &str) -> Result<usize, LookupError> {
        if let Some(exact) = self.requirements.iter().position(|r| self.reference(r).eq_ignore_ascii_case(given)) {
            return Ok(exact);
        }
        let all = self.requirements.iter().enumerate();
        let hits: Vec<usize> = all.filter(|(_, r)| r.id.eq_ignore_ascii_case(given)).map(|(at, _)| at).collect();
        match hits.as_slice() {
            [] => Err(LookupError::Unknown(given.chars().take(64).collect())),
            [one] => Ok(*one),
            several => Err(LookupError::Ambiguous {
                given: given.to_owned(),
                full: several.iter().map(|at| self.reference(&self.requirements[*at])).collect(),
            }),
        }
    }

    /// The rows that say something about a requirement, direct evidence first.
    pub fn rows_for(&self, requirement: &Requirement) -> Vec<&Row> {
        let at = self.requirements.iter().position(|r| r == requirement);
        let mut rows: Vec<&Row> =
            self.rows.iter().filter(|r| at.is_some_and(|at| r.requirements.contains(&at))).collect();
        rows.sort_by_key(|r| r.relation);
        rows
    }

    /// Whether an artifact of this type bears on a requirement.
    pub fn bears_on(&self, requirement: &Requirement, kind: &str) -> bool {
        self.rows_for(requirement).iter().any(|row| row.types.iter().any(|t| t.matches(kind)))
    }
}

#[cfg(test)]
mod tests;
