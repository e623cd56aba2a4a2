//! Asks sshd itself what its configuration comes to: `sshd -T`, `sshd -t`, `sshd -V` (sshd(8)).
//!
//! Never runs a program by a relative name, with our environment, without a time limit or with unbounded output.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    listener::Invocation,
    scan::{self, Disk},
};
use crate::child::{self, Bounds, Output};

/// How long sshd may take: it needs 10 ms.
pub const MAX_TIME: Duration = Duration::from_secs(5);
/// The most bytes read of what sshd prints.
pub const MAX_OUTPUT: usize = 1024 * 1024;
/// How much of an error of sshd's is passed on, in characters.
const MAX_COMPLAINT: usize = 600;
/// sshd does not even test a configuration without this directory, which exists only while its service runs.
const PRIVSEP_DIR: &str = "/run/sshd";

/// sshd could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum EffectiveError {
    /// The program could not be started or read.
    #[error("{binary}: {source}", binary = binary.display())]
    Run {
        /// The program.
        binary: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It took longer than [`MAX_TIME`] or printed more than [`MAX_OUTPUT`].
    #[error("{binary} took longer than {MAX_TIME:?} or printed more than {MAX_OUTPUT} bytes", binary = binary.display())]
    Endless {
        /// The program.
        binary: PathBuf,
    },
    /// It refused the configuration.
    #[error("{binary} refuses {config}: {complaint}", binary = binary.display(), config = config.display())]
    Refused {
        /// The program.
        binary: PathBuf,
        /// The configuration file.
        config: PathBuf,
        /// What it printed.
        complaint: String,
    },
    /// Its configuration includes or names a file that it would wait for.
    #[error("{binary} cannot read {config}: {file} is not a regular file, and it would wait for what comes out of it: remove it",
        binary = binary.display(), config = config.display(), file = file.display())]
    Waits {
        /// The program.
        binary: PathBuf,
        /// The configuration file.
        config: PathBuf,
        /// The FIFO or device.
        file: PathBuf,
    },
    /// A connection that cannot be described to it.
    #[error("{0:?} cannot be asked for: sshd -C takes no commas")]
    Unaskable(String),
    /// Its version could not be read.
    #[error("{binary} -V does not tell its version", binary = binary.display())]
    NoVersion {
        /// The program.
        binary: PathBuf,
    },
}

/// The number of /dev/null, which is empty (devices.txt of Linux).
const NULL_DEVICE: u64 = nix::libc::makedev(1, 3);
/// An address and a name that no client has (RFC 5737, RFC 2606): no `Match` block is about them in particular.
pub(crate) const ANY_CLIENT: (&str, &str) = ("192.0.2.1", "client.invalid");
/// Two more of those addresses: a line that happens to be about one of them is not about the others.
const OTHER_CLIENTS: [&str; 2] = ["198.51.100.1", "203.0.113.1"];
/// An address that no host has.
const ANY_HOST: &str = "192.0.2.2";
/// A name that no account has.
pub const ANYBODY: &str = "lockdownd-probe";

/// A connection, as `sshd -C` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spec {
    /// The account.
    pub user: String,
    /// The client's host name.
    pub host: String,
    /// The client's address.
    pub addr: String,
    /// The address that it connects to.
    pub laddr: String,
    /// The port that it connects to.
    pub lport: u16,
    /// The routing domain, where one is asked for.
    pub rdomain: Option<String>,
}

impl Spec {
    /// A login to this account, from nowhere in particular, to port 22.
    #[must_use]
    pub fn of(user: &str) -> Self {
        let [user, host, addr, laddr] = [user, ANY_CLIENT.1, ANY_CLIENT.0, ANY_HOST].map(str::to_owned);
        Self { user, host, addr, laddr, lport: 22, rdomain: None }
    }

    /// Logins to this account from three addresses that nobody has: what holds for two of them holds where nothing is said
    /// of addresses.
    #[must_use]
    pub fn from_nowhere(user: &str) -> [Self; 3] {
        let from = |addr: &str| Self { addr: addr.to_owned(), ..Self::of(user) };
        [Self::of(user), from(OTHER_CLIENTS[0]), from(OTHER_CLIENTS[1])]
    }

    /// A login of nobody in particular: what holds for it, holds where no `Match` block does.
    #[must_use]
    pub fn of_anybody() -> Self {
        Self::of(ANYBODY)
    }

    fn argument(&self) -> Result<String, EffectiveError> {
        let Self { user, host, addr, laddr, lport, rdomain } = self;
        let texts = [Some(user), Some(host), Some(addr), Some(laddr), rdomain.as_ref()];
        if let Some(odd) = texts.into_iter().flatten().find(|text| text.contains([',', '\0', '\n'])) {
            return Err(EffectiveError::Unaskable(odd.clone()));
        }
        let rdomain = rdomain.as_ref().map(|rdomain| format!(",rdomain={rdomain}")).unwrap_or_default();
        Ok(format!("user={user},host={host},addr={addr},laddr={laddr},lport={lport}{rdomain}"))
    }
}

/// What `sshd -T` printed: each keyword, in lower case, with each of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective(BTreeMap<String, Vec<String>>);

impl Effective {
    /// Reads what `sshd -T` prints.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
            settings.entry(keyword.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
        }
        Self(settings)
    }

    /// The first value of a keyword.
    #[must_use]
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword)?.first().map(String::as_str)
    }

    /// Every value of a keyword that may be given several times, such as `hostkey`.
    pub fn all(&self, keyword: &str) -> impl Iterator<Item = &str> {
        self.0.get(keyword).into_iter().flatten().map(String::as_str)
    }

    /// Whether a keyword is `yes`.
    #[must_use]
    pub fn is_yes(&self, keyword: &str) -> bool {
        self.get(keyword) == Some("yes")
    }

    /// Every keyword with its values.
    #[must_use]
    pub fn settings(&self) -> &BTreeMap<String, Vec<String>> {
        &self.0
    }

    /// The patterns of `AuthorizedKeysFile`. sshd prints them unquoted: one with a blank in it comes apart.
    #[must_use]
    pub fn key_files(&self) -> Vec<String> {
        let value = self.get("authorizedkeysfile").unwrap_or_default();
        value.split_ascii_whitespace().map(str::to_owned).collect()
    }
}

/// What an sshd that was started like this has as its configuration for one connection, with the `Match` blocks that hold
/// for it. Takes some 10 ms.
///
/// # Errors
/// When sshd cannot be run or refuses its configuration.
pub fn effective(sshd: &Invocation, spec: &Spec) -> Result<Effective, EffectiveError> {
    // Without -C, sshd refuses a configuration that has `Match LocalPort` or the like.
    Ok(Effective::parse(&ask(sshd, vec!["-T".into(), "-C".into(), spec.argument()?.into()])?))
}

/// Whether sshd would start with its configuration.
///
/// # Errors
/// [`EffectiveError::Refused`] with what sshd says, when not.
pub fn sshd_t(sshd: &Invocation) -> Result<(), EffectiveError> {
    ask(sshd, vec!["-t".into()]).map(|_| ())
}

/// OpenSSH's version, as (major, minor).
///
/// # Errors
/// When the program does not tell.
pub fn openssh_version(binary: &Path) -> Result<(u32, u32), EffectiveError> {
    // Before 9.2 there was no -V: the complaint about it begins with the version.
    let output = run(binary, &["-V".into()])?;
    let text = [output.stdout, output.stderr].concat();
    parse_version(&String::from_utf8_lossy(&text)).ok_or(EffectiveError::NoVersion { binary: binary.to_owned() })
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text.split("OpenSSH_").nth(1)?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Keywords whose files sshd opens itself, when it starts or when somebody logs in: whoever waits there lets nobody in.
const FILES_OF_SSHD: [&str; 6] =
    ["banner", "hostcertificate", "hostkey", "modulifile", "revokedkeys", "trustedusercakeys"];

/// The first FIFO or device, other than /dev/null, among the files that a configuration is made of and those that it names for
/// sshd itself.
fn waited_for(config: &Path) -> Option<PathBuf> {
    let waits = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|meta| {
            let kind = meta.file_type();
            kind.is_fifo() || kind.is_char_device() && meta.rdev() != NULL_DEVICE
        })
    };
    let scan = scan::scan(&Disk, config);
    let named = scan.settings.iter().filter(|setting| FILES_OF_SSHD.contains(&setting.keyword.as_str()));
    let named = named.filter_map(|setting| setting.args.first()).map(PathBuf::from).filter(|file| file.is_absolute());
    scan.files.iter().cloned().chain(named).find(waits)
}

fn ask(sshd: &Invocation, mut args: Vec<OsString>) -> Result<String, EffectiveError> {
    if let Some(file) = waited_for(&sshd.config_file) {
        let (binary, config) = (sshd.binary.clone(), sshd.config_file.clone());
        return Err(EffectiveError::Waits { binary, config, file });
    }
    args.extend(["-f".into(), sshd.config_file.clone().into()]);
    for option in &sshd.options {
        args.extend(["-o".into(), option.into()]);
    }
    for port in &sshd.ports {
        args.extend(["-p".into(), port.to_string().into()]);
    }
    let mut output = run(&sshd.binary, &args)?;
    if !output.status.success() && String::from_utf8_lossy(&output.stderr).contains(PRIVSEP_DIR) {
        // systemd takes the directory away with its service: it may have done so just now.
        output = run(&sshd.binary, &args)?;
    }
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint: Vec<_> = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let complaint = complaint.join("; ").chars().filter(|c| !c.is_control()).take(MAX_COMPLAINT).collect();
    let (binary, config) = (sshd.binary.clone(), sshd.config_file.clone());
    Err(EffectiveError::Refused { binary, config, complaint })
}

fn run(binary: &Path, args: &[OsString]) -> Result<Output, EffectiveError> {
    let failed = |source| EffectiveError::Run { binary: binary.to_owned(), source };
    if !binary.is_absolute() {
        return Err(failed(io::Error::other("not an absolute path")));
    }
    make_privsep_dir();
    let bounds = Bounds { time: MAX_TIME, output: MAX_OUTPUT };
    child::run(child::command(binary, args), bounds)
        .map_err(failed)?
        .ok_or(EffectiveError::Endless { binary: binary.to_owned() })
}

/// What systemd makes for ssh.service. Where that fails, sshd says so itself.
fn make_privsep_dir() {
    use std::os::unix::fs::DirBuilderExt;
    let _ = std::fs::DirBuilder::new().mode(0o755).create(PRIVSEP_DIR);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sshd_prints_is_read_by_keyword() {
        let text = "port 22\nusepam yes\nhostkey /a\nhostkey /b\nauthorizedkeysfile .ssh/a .ssh/b\nbanner none\n";
        let effective = Effective::parse(text);
        assert!(effective.is_yes("usepam") && !effective.is_yes("banner") && !effective.is_yes("nothing"));
        assert_eq!(effective.all("hostkey").collect::<Vec<_>>(), ["/a", "/b"]);
        assert_eq!(effective.key_files(), [".ssh/a", ".ssh/b"]);
    }

    #[test]
    fn versions_are_read_from_every_release() {
        for (text, version) in [
            ("OpenSSH_9.2, OpenSSL 3.0.19 27 Jan 2026\n", (9, 2)),
            ("OpenSSH_10.0p2 Debian-7, OpenSSL 3.5.1\n", (10, 0)),
            ("unknown option -- V\nOpenSSH_8.9p1 Ubuntu-3ubuntu0.10, OpenSSL 3.0.2\nusage: sshd\n", (8, 9)),
        ] {
            assert_eq!(parse_version(text), Some(version));
        }
        assert_eq!(parse_version("OpenSSH_"), None);
    }

    #[test]
    fn a_connection_that_sshd_would_misread_is_not_asked_for() {
        assert!(Spec::of("a,addr=1.2.3.4").argument().is_err());
        let expected = "user=frank,host=client.invalid,addr=192.0.2.1,laddr=192.0.2.2,lport=22";
        assert_eq!(Spec::of("frank").argument().expect("askable"), expected);
    }

    #[test]
    fn a_configuration_that_sshd_would_wait_for_is_not_asked_about() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let write = |name: &str, text: String| std::fs::write(path(name), text).expect("own file");
        write("main", format!("Include {}\n", path("*.conf").display()));
        write("a.conf", "Include /dev/null /nonexistent\n".to_owned());
        assert_eq!(waited_for(&path("main")), None);
        nix::unistd::mkfifo(&path("b.conf"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        assert_eq!(waited_for(&path("main")), Some(path("b.conf")));
        let mut sshd = Invocation::standard();
        sshd.config_file = path("main");
        let error = effective(&sshd, &Spec::of_anybody()).expect_err("it is not asked");
        assert!(error.to_string().contains("b.conf is not a regular file"), "{error}");
        std::fs::remove_file(path("b.conf")).expect("removed");
        std::os::unix::fs::symlink("/dev/tty", path("b.conf")).expect("a link");
        assert_eq!(waited_for(&path("main")), Some(path("b.conf")));
        std::fs::remove_file(path("b.conf")).expect("removed");
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        for (line, waits) in
            [("Banner", true), ("HostKey", true), ("Match User frank\n    Banner", true), ("ChrootDirectory", false)]
        {
            write("b.conf", format!("Banner none\n{line} {}\n", path("fifo").display()));
            assert_eq!(waited_for(&path("main")).is_some(), waits, "{line}");
        }
    }

    #[test]
    fn a_program_that_never_ends_or_prints_for_ever_is_stopped() {
        let error = run(Path::new("/usr/bin/yes"), &[]);
        assert!(matches!(error, Err(EffectiveError::Endless { .. })));
        assert!(matches!(run(Path::new("yes"), &[]), Err(EffectiveError::Run { .. })));
        assert!(matches!(run(Path::new("/nonexistent"), &[]), Err(EffectiveError::Run { .. })));
        let output = run(Path::new("/bin/echo"), &["a".into()]).expect("an output");
        assert_eq!(output.stdout, b"a\n");
    }

    #[test]
    fn a_signal_that_comes_meanwhile_is_no_failure() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _entered = runtime.enter();
        let _handled =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined1()).expect("a handler");
        // kill(2) of a thread's id prefers that thread: the one that waits here.
        let me = nix::unistd::gettid();
        let script = format!("for i in 1 2 3; do sleep 0.05; kill -USR1 {me}; done; echo a");
        let output = run(Path::new("/bin/sh"), &["-c".into(), script.into()]).expect("an output");
        assert_eq!(output.stdout, b"a\n");
    }
}
