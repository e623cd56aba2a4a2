//! The layers that an instance is laid upon, made once and kept in the cache: a root per release, upon it a layer with the
//! package installed, and upon that one with people in it.
//!
//! A layer is named by a hash of all that goes into it, is built beside its place and renamed into it under a lock, and
//! is never written again. So a changed recipe or package makes a new one, and an interrupted build leaves none.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::client::Key;
use crate::host::{cache_dir, host_command};
use crate::mount::Overlay;

/// What every root holds. An instance has no network but its own loopback.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,openssh-client,openssh-sftp-server,rsyslog,rsyslog-elasticsearch,\
                        iproute2,procps,sudo,jq,passwd,cron,socat,at,curl,dropbear-bin,tmux,libnss-extrausers,sshfs,e2fsprogs,\
                        libpam-oath,oathtool";

/// What is done to a fresh root: units that would only make noise in a test are masked, and a machine id comes with
/// each instance.
const FINISH: &str = "systemctl --root=\"$1\" mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
                      fstrim.timer e2scrub_all.timer e2scrub_reap.service systemd-timesyncd.service; \
                      rm -rf \"$1\"/var/cache/apt/archives/*.deb \"$1\"/var/lib/apt/lists/*; \
                      rm -f \"$1\"/etc/machine-id \"$1\"/etc/hostname; : >\"$1\"/etc/machine-id";

/// Bootstrapping takes 20 to 40 s; a slow mirror more.
const BOOTSTRAP_LIMIT: Duration = Duration::from_secs(900);
/// Makes the accounts of `"$@"`, and puts the key `$0` into the home of the first.
const PEOPLE: &str = "set -e; for account do useradd -m -s /bin/bash -p '*' \"$account\"; done; \
                      install -d -o \"$1\" -g \"$1\" -m 700 \"/home/$1/.ssh\"; \
                      install -o \"$1\" -g \"$1\" -m 600 /dev/null \"/home/$1/.ssh/authorized_keys\"; \
                      echo \"$0\" >\"/home/$1/.ssh/authorized_keys\"";
/// The people of [`with_people`].
pub(crate) const ACCOUNTS: [&str; 4] = ["breakglass", "ubuntu", "frank", "grace"];

/// Installing the package, and making people, takes about two seconds.
const OFFLINE_LIMIT: Duration = Duration::from_secs(120);
/// A layer with a package that nobody used for so long is removed when a new layer is made.
const PACKAGE_UNUSED: Duration = Duration::from_secs(24 * 3600);
/// The same for a root, which takes longer to make.
const ROOT_UNUSED: Duration = Duration::from_secs(14 * 24 * 3600);

/// A Debian release that instances run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Debian 12: OpenSSH 9.2, systemd 252.
    Bookworm,
    /// Debian 13: OpenSSH 10.0, systemd 257.
    Trixie,
}

impl Release {
    /// Every release that is supported.
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        })
    }
}

/// The .deb under test: `$LOCKDOWND_DEB`, else the newest of `target/debian/lockdownd_*.deb`.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn built_package() -> PathBuf {
    std::env::var_os("LOCKDOWND_DEB").map_or_else(|| newest_package("lockdownd"), PathBuf::from)
}

/// The compliance API's .deb: the newest of `target/debian/compliance-api_*.deb`.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn built_compliance_api() -> PathBuf {
    newest_package("compliance-api")
}

/// The client's .deb: the newest of `target/debian/lockdown-client_*.deb`.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn built_client() -> PathBuf {
    newest_package("lockdown-client")
}

fn newest_package(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let debian = target.join("debian");
    let packages = fs::read_dir(&debian).into_iter().flatten().flatten().map(|entry| entry.path());
    packages
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .and_then(|n| n.strip_prefix(name))
                .is_some_and(|n| n.starts_with('_') && n.ends_with(".deb"))
        })
        .max_by_key(|path| fs::metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH))
        .unwrap_or_else(|| panic!("no {name}_*.deb in {}: run `packaging/build` first", debian.display()))
}

/// The root of `release` without the package.
pub(crate) fn root(release: Release) -> PathBuf {
    let name =
        format!("root-{release}-{}", digest(&[release.to_string().as_bytes(), PACKAGES.as_bytes(), FINISH.as_bytes()]));
    layer(&name, |dir| {
        let (tree, include) = (dir.display().to_string(), format!("--include={PACKAGES}"));
        let hook = format!("--customize-hook={FINISH}");
        let args = ["--quiet", "--mode=root", "--variant=minbase", &include, &hook, &release.to_string(), &tree];
        host_command(BOOTSTRAP_LIMIT, "mmdebstrap", &args).expect_ok();
    })
}

/// The layers of `release` with `package` installed, topmost first.
pub(crate) fn with_package(release: Release, package: &Path) -> Vec<PathBuf> {
    let root = root(release);
    let content = fs::read(package).unwrap_or_else(|e| panic!("{}: {e}", package.display()));
    let root_name = root.file_name().expect("a layer has a name").as_encoded_bytes();
    let name = format!("package-{release}-{}", digest(&[root_name, &content]));
    let installed = layer(&name, |dir| {
        let overlay = Overlay::mount(dir, std::slice::from_ref(&root));
        install_offline(overlay.path(), package);
    });
    vec![installed.join("upper"), root]
}

/// The layers of `release` with `package` installed and [`ACCOUNTS`] in it, topmost first, and the directory where each of these
/// has a key, named after it. That of the first is in its home.
pub(crate) fn with_people(release: Release, package: &Path) -> (Vec<PathBuf>, PathBuf) {
    let below = with_package(release, package);
    let installed = below[0].parent().and_then(Path::file_name).expect("a layer has a name").as_encoded_bytes();
    let parts = [&[installed, PEOPLE.as_bytes()], &ACCOUNTS.map(str::as_bytes)[..]].concat();
    let peopled = layer(&format!("people-{release}-{}", digest(&parts)), |dir| {
        let keys = dir.join("keys");
        fs::create_dir(&keys).unwrap_or_else(|e| panic!("{}: {e}", keys.display()));
        let [exempt, ..] = ACCOUNTS.map(|name| Key::make(keys.join(name), name, "ed25519"));
        let overlay = Overlay::mount(dir, &below);
        offline(overlay.path(), "/dev/null", &[&["sh", "-c", PEOPLE, exempt.public()], &ACCOUNTS[..]].concat());
    });
    ([vec![peopled.join("upper")], below].concat(), peopled.join("keys"))
}

/// Installs `package` into a tree that is not booted, as an image builder would.
fn install_offline(tree: &Path, package: &Path) {
    let package = package.canonicalize().unwrap_or_else(|e| panic!("{}: {e}", package.display()));
    offline(tree, &package.display().to_string(), &["dpkg", "-i", "/run/lockdownd.deb"]);
}

/// Runs a command in a tree that is not booted, with the file `bound` at `/run/lockdownd.deb`.
fn offline(tree: &Path, bound: &str, command: &[&str]) {
    let bind = format!("--bind-ro={bound}:/run/lockdownd.deb");
    let tree = tree.display().to_string();
    let args = ["-q", "--register=no", "--keep-unit", "--settings=no", "--private-network", "--resolv-conf=off"];
    let args = [&args[..], &["--timezone=off", "--as-pid2", "--pipe", &bind, "-D", &tree]].concat();
    let args = [&args[..], &["--setenv=DEBIAN_FRONTEND=noninteractive"], command].concat();
    host_command(OFFLINE_LIMIT, "systemd-nspawn", &args).expect_ok();
}

/// The layer called `name`, made by `build` if it is not there yet. `build` gets an empty directory.
fn layer(name: &str, build: impl FnOnce(&Path)) -> PathBuf {
    let layers = cache_dir().join("layers");
    fs::create_dir_all(&layers).unwrap_or_else(|e| panic!("{}: {e}", layers.display()));
    let _lock = lock(&layers.join(format!("{name}.lock")));
    let place = layers.join(name);
    if place.exists() {
        // A failure only means that the layer may be removed early, and then made again.
        let _ = File::open(&place).and_then(|dir| dir.set_modified(SystemTime::now()));
        return place;
    }
    remove_unused(&layers);
    let draft = layers.join(format!("{name}.draft"));
    crate::mount::unmount(&draft.join("merged"));
    let _ = fs::remove_dir_all(&draft);
    fs::create_dir(&draft).unwrap_or_else(|e| panic!("{}: {e}", draft.display()));
    build(&draft);
    fs::rename(&draft, &place).unwrap_or_else(|e| panic!("{}: {e}", place.display()));
    place
}

/// Removes the layers that nobody used for long.
fn remove_unused(layers: &Path) {
    for entry in fs::read_dir(layers).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        let limit =
            if entry.file_name().as_encoded_bytes().starts_with(b"root-") { ROOT_UNUSED } else { PACKAGE_UNUSED };
        if age.is_some_and(|age| age > limit) {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// Takes the lock at `path`, waiting for whoever holds it.
pub(crate) fn lock(path: &Path) -> Flock<File> {
    let file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Flock::lock(file, FlockArg::LockExclusive).unwrap_or_else(|(_, e)| panic!("{}: {e}", path.display()))
}

/// The first 16 hex digits of a SHA-256 over `parts`.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
