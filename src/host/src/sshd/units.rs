//! SSH servers that do not run until somebody connects: systemd's socket units, and what each would start.
//!
//! Reads unit files with their drop-ins as systemd.unit(5) orders them, from root's places alone. What it does not
//! understand (a generator's special case, a variable) it leaves out of a command line; it never runs anything.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    listener::{self, Invocation},
    scan::{Disk, Files},
    syntax,
};

/// Where units stand; the first file of a name counts (systemd.unit(5), UNIT FILE LOAD PATH).
const UNIT_DIRS: [&str; 7] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];
/// The most drop-ins of one unit that are read.
const MAX_DROP_INS: usize = 64;

/// A socket unit that is enabled, and the program that it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnDemand {
    /// The unit.
    pub unit: String,
    /// Where systemd listens for it: what `ListenStream` says.
    pub listens: Vec<String>,
    /// The program.
    pub program: PathBuf,
    /// How it is started, if it is an sshd, and whether that is known for certain.
    pub sshd: Option<(Invocation, bool)>,
}

/// Every enabled socket unit with its program.
#[must_use]
pub fn on_demand() -> Vec<OnDemand> {
    listener::socket_units().filter_map(|unit| read(&Disk, &unit)).collect()
}

fn read(files: &dyn Files, unit: &str) -> Option<OnDemand> {
    let socket = load(files, unit);
    let name = unit.strip_suffix(".socket")?;
    let accepts = socket.last("Accept").is_some_and(|value| matches!(value, "yes" | "true" | "on" | "1"));
    let service = match socket.last("Service") {
        Some(service) => service.to_owned(),
        None if accepts => format!("{name}@.service"),
        None => format!("{name}.service"),
    };
    let service = load(files, &service);
    let command = service.last("ExecStart")?.trim_start_matches(['-', '@', ':', '+', '!', '|']);
    let mut words = syntax::split_args(command).ok()?.into_iter();
    let program = PathBuf::from(words.next()?);
    let variables = service.variables(files);
    let args: Vec<String> = words.flat_map(|word| expand(word, &variables)).collect();
    let is_sshd = program.file_name().is_some_and(|name| name == "sshd");
    let sshd = is_sshd.then(|| listener::invocation(program.clone(), "sshd".to_owned(), &args));
    let listens = socket.all("ListenStream").to_vec();
    Some(OnDemand { unit: unit.to_owned(), listens, program, sshd })
}

/// A word that is one variable alone comes apart at blanks, and is nothing where it is not set (systemd.service(5)).
fn expand(word: String, variables: &BTreeMap<String, String>) -> Vec<String> {
    match word.strip_prefix('$').filter(|name| !name.starts_with(['{', '$'])) {
        Some(name) => syntax::split_args(variables.get(name).map_or("", String::as_str)).unwrap_or_default(),
        None => vec![word],
    }
}

/// The settings of a unit, drop-ins included, whatever their sections.
#[derive(Debug, Default)]
struct Unit(BTreeMap<String, Vec<String>>);

impl Unit {
    fn last(&self, key: &str) -> Option<&str> {
        self.all(key).last().map(String::as_str)
    }

    fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Takes in a file: an empty value forgets those from before.
    fn read(&mut self, text: &str) {
        let joined = text.replace("\\\n", " ");
        for line in joined.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';', '['])) {
            let Some((key, value)) = line.split_once('=') else { continue };
            let values = self.0.entry(key.trim().to_owned()).or_default();
            match value.trim() {
                "" => values.clear(),
                value => values.push(value.to_owned()),
            }
        }
    }

    /// What `Environment` and `EnvironmentFile` set.
    fn variables(&self, files: &dyn Files) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        let mut take = |text: &str| {
            if let Some((name, value)) = text.split_once('=') {
                let value = value.trim().trim_matches(['"', '\'']);
                variables.insert(name.trim().to_owned(), value.to_owned());
            }
        };
        for line in self.all("Environment") {
            syntax::split_args(line).unwrap_or_default().iter().for_each(|word| take(word));
        }
        for path in self.all("EnvironmentFile") {
            let content = files.read(Path::new(path.trim_start_matches('-'))).unwrap_or_default();
            let text = String::from_utf8_lossy(&content);
            text.lines().map(str::trim).filter(|line| !line.starts_with('#')).for_each(&mut take);
        }
        variables
    }
}

/// A unit by its name, with the drop-ins of all places in the order of their names.
fn load(files: &dyn Files, name: &str) -> Unit {
    let mut unit = Unit::default();
    let read = |dir: &&str| files.read(&Path::new(dir).join(name)).ok();
    if let Some(content) = UNIT_DIRS.iter().find_map(read) {
        unit.read(&String::from_utf8_lossy(&content));
    }
    let mut drop_ins: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for dir in UNIT_DIRS {
        let entries = fs::read_dir(Path::new(dir).join(format!("{name}.d"))).into_iter().flatten().flatten();
        for entry in
            entries.filter(|entry| entry.path().extension().is_some_and(|ext| ext == "conf")).take(MAX_DROP_INS)
        {
            drop_ins.entry(entry.file_name()).or_insert_with(|| entry.path());
        }
    }
    for path in drop_ins.into_values() {
        unit.read(&String::from_utf8_lossy(&files.read(&path).unwrap_or_default()));
    }
    unit
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    struct Memory(BTreeMap<&'static str, &'static str>);

    impl Files for Memory {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let text = path.to_str().and_then(|path| self.0.get(path));
            text.map(|text| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn glob(&self, _: &str) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
            Ok((Vec::new(), Vec::new()))
        }
    }

    #[test]
    fn a_socket_unit_leads_to_the_sshd_that_it_starts() {
        let files = Memory(BTreeMap::from([
            ("/run/systemd/generator/local-sshd.socket", "[Socket]\nListenStream=/run/local/socket\nAccept=yes\n"),
            (
                "/usr/lib/systemd/system/local-sshd@.service",
                "[Service]\nEnvironmentFile=-/etc/default/ssh\nExecStart=-/usr/sbin/sshd -i $SSHD_OPTS \\\n -o \"A b\"\n",
            ),
            ("/etc/default/ssh", "# options\nSSHD_OPTS='-f /etc/ssh/other -o UsePAM=no'\n"),
        ]));
        let found = read(&files, "local-sshd.socket").expect("a unit");
        assert_eq!(
            (found.listens.as_slice(), found.program.as_path()),
            (&["/run/local/socket".to_owned()][..], Path::new("/usr/sbin/sshd"))
        );
        let (sshd, certain) = found.sshd.expect("an sshd");
        assert!(certain);
        assert_eq!(
            (sshd.config_file.as_path(), sshd.options),
            (Path::new("/etc/ssh/other"), vec!["UsePAM=no".to_owned(), "A b".to_owned()])
        );
    }

    #[test]
    fn another_program_is_told_by_its_name_and_an_empty_value_forgets() {
        let files = Memory(BTreeMap::from([
            (
                "/etc/systemd/system/door.socket",
                "[Socket]\nListenStream=22\nListenStream=\nListenStream=2222\nService=other.service\n",
            ),
            ("/etc/systemd/system/other.service", "[Service]\nExecStart=/usr/sbin/dropbear -i\n"),
        ]));
        let found = read(&files, "door.socket").expect("a unit");
        assert_eq!((found.listens, found.sshd), (vec!["2222".to_owned()], None));
        assert!(read(&files, "nothing.socket").is_none());
    }
}
