//! Where the people and the rendered grants of a configuration stand, file by file: so that whoever finds one that
//! surprises them knows which template to mend. This never judges anything.

use std::collections::BTreeMap;

use record::{Account, Person};

use super::{Config, Place};

/// What one file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds<'c> {
    /// People, each with their line, from 1, by line.
    pub people: Vec<(u32, &'c Person)>,
    /// Grants, each with the line it begins at, by line.
    pub grants: Vec<(u32, &'c Person, &'c Account)>,
}

impl Config {
    /// Every person and every rendered grant, by the file it stands in.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<&str, Holds<'_>> {
        fn of<'m, 'c>(files: &'m mut BTreeMap<&'c str, Holds<'c>>, place: &'c Place) -> &'m mut Holds<'c> {
            files.entry(&place.file).or_default()
        }
        let mut files = BTreeMap::new();
        for (name, entry) in &self.people {
            of(&mut files, &entry.place).people.push((entry.place.line, name));
        }
        for grant in &self.rendered {
            of(&mut files, &grant.place).grants.push((grant.place.line, &grant.person, &grant.account));
        }
        for holds in files.values_mut() {
            holds.people.sort();
            holds.grants.sort();
        }
        files
    }
}
