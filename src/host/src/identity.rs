//! Which machine this is, from DMI and the machine id: what the ledger's key is bound to. Reads only; decides nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use record::Host;
use serde::{Deserialize, Serialize};

/// The most that is read of any of these one-line files, in bytes.
const MAX_READ: u64 = 4096;
/// What DMI says on Amazon EC2 (Nitro): only there is the board's asset tag the instance id.
const EC2_VENDOR: &str = "Amazon EC2";

/// What makes a machine this machine. When any of it changes, another ledger with another key begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The EC2 instance id.
    pub instance: Option<String>,
    /// DMI's product UUID, in lower case: its case changes between kernels.
    pub product: Option<String>,
    /// machine-id(5).
    pub machine: Option<String>,
    /// The host's name in records.
    pub name: Host,
}

/// An identity that could not be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is there and cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// `host.name = "auto"` found nothing to go by.
    #[error(
        "this is no EC2 instance and /etc/machine-id is missing or empty: set host.name, or run systemd-machine-id-setup"
    )]
    Nameless,
}

impl Identity {
    /// Reads this machine's identity. `name` is the configured one; without, it is the instance id, else the machine id.
    ///
    /// # Errors
    /// A file that is there and cannot be read; nothing to make a name of.
    pub fn read(name: Option<&Host>) -> Result<Self, Error> {
        Self::read_under(Path::new("/"), name)
    }

    fn read_under(root: &Path, name: Option<&Host>) -> Result<Self, Error> {
        let line = |path: &str| one_line(&root.join(path));
        let ec2 = line("sys/class/dmi/id/sys_vendor")?.as_deref() == Some(EC2_VENDOR);
        let instance =
            if ec2 { line("sys/class/dmi/id/board_asset_tag")?.filter(|tag| is_instance_id(tag)) } else { None };
        let product = line("sys/class/dmi/id/product_uuid")?.map(|uuid| uuid.to_lowercase());
        let machine = line("etc/machine-id")?.filter(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        let own = || instance.as_deref().or(machine.as_deref()).and_then(|id| id.parse().ok());
        let name = name.cloned().or_else(own).ok_or(Error::Nameless)?;
        Ok(Self { instance, product, machine, name })
    }

    /// What differs, in words: `instance i-1 is now i-2`. Empty when it is the same machine.
    #[must_use]
    pub fn changes_to(&self, now: &Self) -> Vec<String> {
        let said = |value: Option<&str>| value.unwrap_or("unknown").to_owned();
        [
            ("instance", self.instance.as_deref(), now.instance.as_deref()),
            ("product UUID", self.product.as_deref(), now.product.as_deref()),
            ("machine id", self.machine.as_deref(), now.machine.as_deref()),
            ("name", Some(self.name.as_str()), Some(now.name.as_str())),
        ]
        .into_iter()
        .filter(|(_, was, is)| was != is)
        .map(|(what, was, is)| format!("{what} {} is now {}", said(was), said(is)))
        .collect()
    }
}

fn is_instance_id(tag: &str) -> bool {
    tag.strip_prefix("i-")
        .is_some_and(|hex| (8..=32).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The first line, trimmed; nothing where the file is missing or empty.
fn one_line(path: &Path) -> Result<Option<String>, Error> {
    let at = |source| Error::Read { path: path.to_owned(), source };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at(e)),
    };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, MAX_READ), &mut bytes).map_err(at)?;
    let line = String::from_utf8_lossy(&bytes).lines().next().unwrap_or("").trim().to_owned();
    Ok(Some(line).filter(|l| !l.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn an_ec2_instance_is_named_by_its_instance_id() {
        let root = machine(&[
            ("sys/class/dmi/id/sys_vendor", "Amazon EC2\n"),
            ("sys/class/dmi/id/board_asset_tag", "i-0abc123def4567890\n"),
            ("sys/class/dmi/id/product_uuid", "EC2ABCDE-0000\n"),
            ("etc/machine-id", ID),
        ]);
        let identity = Identity::read_under(root.path(), None).unwrap();
        assert_eq!(identity.name.as_str(), "i-0abc123def4567890");
        assert_eq!(identity.product.as_deref(), Some("ec2abcde-0000"));
    }

    #[test]
    fn an_asset_tag_of_another_vendor_is_no_instance_id() {
        let root = machine(&[
            ("sys/class/dmi/id/sys_vendor", "Dull Computers\n"),
            ("sys/class/dmi/id/board_asset_tag", "i-0abc123def4567890\n"),
            ("etc/machine-id", ID),
        ]);
        let identity = Identity::read_under(root.path(), None).unwrap();
        assert_eq!((identity.instance, identity.name.as_str()), (None, ID));
    }

    #[test]
    fn a_configured_name_wins_and_no_name_at_all_is_an_error() {
        let root = machine(&[("etc/machine-id", "uninitialized\n")]);
        assert!(matches!(Identity::read_under(root.path(), None), Err(Error::Nameless)));
        let name = "web-1".parse().unwrap();
        assert_eq!(Identity::read_under(root.path(), Some(&name)).unwrap().name, name);
    }

    #[test]
    fn every_change_is_named() {
        let was = Identity {
            instance: None,
            product: Some("p".into()),
            machine: Some(ID.into()),
            name: "a".parse().unwrap(),
        };
        let now = Identity { instance: Some("i-12345678".into()), name: "b".parse().unwrap(), ..was.clone() };
        assert_eq!(was.changes_to(&now), ["instance unknown is now i-12345678", "name a is now b"]);
        assert!(was.changes_to(&was).is_empty());
    }
}
