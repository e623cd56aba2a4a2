//! Each method by which sshd lets somebody in: how its settings tell that it is on, and which line turns it off.

use super::{STORE, Settings};

/// A method. `found` says what is on, or in `Err` why it lets nobody in.
pub(super) struct Method {
    /// Its word.
    pub(super) kind: &'static str,
    /// Whether it is about root's logins alone.
    pub(super) root_only: bool,
    /// What is on, else why it is closed.
    pub(super) found: fn(&Settings) -> Result<String, String>,
    /// The keyword and value that turn it off, given whether root is wanted; `None`: enforce alone does.
    pub(super) closes: fn(bool) -> Option<(&'static str, &'static str)>,
    /// The methods of ssh that it is, in `AuthenticationMethods`; the drop-in leaves it alone where it is no login by itself.
    pub(super) on: fn(&Settings) -> bool,
}

/// All of them.
pub(super) const METHODS: [Method; 11] = [
    Method { kind: "key_files", root_only: false, found: key_files, closes: |_| None, on: |_| false },
    Method {
        kind: "key_command",
        root_only: false,
        found: key_command,
        closes: |_| Some(("AuthorizedKeysCommand", "none")),
        on: |s| key_command(s).is_ok(),
    },
    Method {
        kind: "user_ca",
        root_only: false,
        found: user_ca,
        closes: |_| Some(("TrustedUserCAKeys", "none")),
        on: |s| user_ca(s).is_ok(),
    },
    Method {
        kind: "principals",
        root_only: false,
        found: principals,
        // Without its list of principals a certificate would be good for the account it names.
        closes: |_| Some(("TrustedUserCAKeys", "none")),
        on: |s| principals(s).is_ok(),
    },
    Method {
        kind: "host_based",
        root_only: false,
        found: |s| yes(s, "hostbasedauthentication", "HostbasedAuthentication", "hostbased"),
        closes: |_| Some(("HostbasedAuthentication", "no")),
        on: |s| yes(s, "hostbasedauthentication", "", "hostbased").is_ok(),
    },
    Method {
        kind: "password",
        root_only: false,
        found: password,
        closes: |_| Some(("PasswordAuthentication", "no")),
        on: |s| password(s).is_ok(),
    },
    Method {
        kind: "empty_password",
        root_only: false,
        found: empty_password,
        closes: |_| Some(("PermitEmptyPasswords", "no")),
        on: |s| s.is_yes("permitemptypasswords"),
    },
    Method {
        kind: "keyboard_interactive",
        root_only: false,
        found: keyboard_interactive,
        closes: |_| Some(("KbdInteractiveAuthentication", "no")),
        // Also where PAM, which would ask, is off: the drop-in turns PAM on.
        on: |s| yes(s, "kbdinteractiveauthentication", "", "keyboard-interactive").is_ok(),
    },
    Method {
        kind: "gssapi",
        root_only: false,
        found: |s| {
            let by_key_exchange = s.is_yes("gssapiauthentication") && s.is_enough("gssapi-keyex");
            let found = yes(s, "gssapiauthentication", "GSSAPIAuthentication", "gssapi-with-mic");
            found.or_else(|off| if by_key_exchange { Ok("GSSAPIAuthentication yes".to_owned()) } else { Err(off) })
        },
        closes: |_| Some(("GSSAPIAuthentication", "no")),
        on: |s| s.is_yes("gssapiauthentication") && (s.is_enough("gssapi-with-mic") || s.is_enough("gssapi-keyex")),
    },
    Method {
        kind: "kerberos",
        root_only: false,
        found: kerberos,
        closes: |_| Some(("KerberosAuthentication", "no")),
        on: |s| kerberos(s).is_ok(),
    },
    Method {
        kind: "root_login",
        root_only: true,
        found: root_login,
        closes: |wanted| Some(("PermitRootLogin", if wanted { "prohibit-password" } else { "no" })),
        on: |s| root_login(s).is_ok(),
    },
];

fn keys_are_taken(settings: &Settings) -> Result<(), String> {
    match settings.is_yes("pubkeyauthentication") {
        true => Ok(()),
        false => Err("PubkeyAuthentication no".to_owned()),
    }
}

fn key_files(settings: &Settings) -> Result<String, String> {
    keys_are_taken(settings)?;
    match settings.get("authorizedkeysfile") {
        None => Err("keys are read from no file".to_owned()),
        Some(STORE) => Err("keys are read from the key store alone, where only active grants stand".to_owned()),
        Some(files) => Ok(format!("keys are read from {files}")),
    }
}

fn key_command(settings: &Settings) -> Result<String, String> {
    keys_are_taken(settings)?;
    let command = settings.get("authorizedkeyscommand").ok_or("AuthorizedKeysCommand none")?;
    Ok(format!("AuthorizedKeysCommand {command}"))
}

fn user_ca(settings: &Settings) -> Result<String, String> {
    keys_are_taken(settings)?;
    let file = settings.get("trustedusercakeys").ok_or("TrustedUserCAKeys none")?;
    Ok(format!("TrustedUserCAKeys {file}: whatever certificate they sign"))
}

fn principals(settings: &Settings) -> Result<String, String> {
    let named = |keyword: &str, shown: &str| settings.get(keyword).map(|value| format!("{shown} {value}"));
    let command = named("authorizedprincipalscommand", "AuthorizedPrincipalsCommand");
    let principals = command.or_else(|| named("authorizedprincipalsfile", "AuthorizedPrincipalsFile"));
    let principals = principals.ok_or("AuthorizedPrincipalsFile none")?;
    user_ca(settings)?;
    Ok(format!("{principals}: certificates for the names it gives"))
}

fn yes(settings: &Settings, keyword: &str, shown: &str, method: &str) -> Result<String, String> {
    if !settings.is_yes(keyword) {
        return Err(format!("{shown} no"));
    }
    match settings.is_enough(method) {
        true => Ok(format!("{shown} yes")),
        false => Err("no login by itself (AuthenticationMethods)".to_owned()),
    }
}

fn password(settings: &Settings) -> Result<String, String> {
    yes(settings, "passwordauthentication", "PasswordAuthentication", "password")
}

fn keyboard_interactive(settings: &Settings) -> Result<String, String> {
    let found = yes(settings, "kbdinteractiveauthentication", "KbdInteractiveAuthentication", "keyboard-interactive")?;
    match settings.is_yes("usepam") {
        true => Ok(found),
        false => Err("UsePAM no: there is nothing that would ask".to_owned()),
    }
}

fn empty_password(settings: &Settings) -> Result<String, String> {
    if !settings.is_yes("permitemptypasswords") {
        return Err("PermitEmptyPasswords no".to_owned());
    }
    password(settings).or_else(|_| keyboard_interactive(settings)).map(|_| "PermitEmptyPasswords yes".to_owned())
}

fn kerberos(settings: &Settings) -> Result<String, String> {
    if !settings.is_yes("kerberosauthentication") {
        return Err("KerberosAuthentication no".to_owned());
    }
    password(settings).map(|_| "KerberosAuthentication yes".to_owned())
}

fn root_login(settings: &Settings) -> Result<String, String> {
    match settings.get("permitrootlogin") {
        Some("yes") => Ok("PermitRootLogin yes".to_owned()),
        Some("no") => Err("PermitRootLogin no".to_owned()),
        // Keys, for which each method stands by itself.
        Some(limited) => Err(format!("PermitRootLogin {limited}: as for any account, and without passwords")),
        None => Ok("PermitRootLogin is not known".to_owned()),
    }
}
