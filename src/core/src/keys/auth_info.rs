//! `SSH_AUTH_INFO_0`: what sshd tells PAM, in the session step, about the methods by which a login was let in.
//!
//! One method a line, `METHOD[/SUBMETHOD]`, for public keys with the key behind it (sshd_config(5), "ExposeAuthInfo").
//! It must never take a certificate for the key inside it, nor leave out one of several keys.

use super::{key::Key, wire};

/// The most bytes of it that are read: an RSA key of 16,384 bits needs 2,800.
pub const MAX_AUTH_INFO: usize = 16 * 1024;

/// The most methods in it: sshd takes a few at the very most.
pub const MAX_METHODS: usize = 16;

/// The method that counts as a second one.
const SECOND_METHOD: &str = "keyboard-interactive";

/// The methods by which one login was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthInfo {
    methods: Vec<String>,
    keys: Vec<Result<Key, Why>>,
    broken: Option<Why>,
}

/// Why a login cannot be put down to one plain key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// sshd told of no public key.
    #[error("sshd verified no public key in this login")]
    NoKey,
    /// Keys of more than one person.
    #[error("sshd verified keys of more than one person in this login, and a login is put down to one person")]
    SeveralPeople,
    /// A certificate.
    #[error("the login was by certificate, and only plain keys are bound to people")]
    Certificate,
    /// A line that sshd does not write.
    #[error("what sshd told of this login cannot be read")]
    Malformed,
    /// More than [`MAX_AUTH_INFO`] bytes or [`MAX_METHODS`] methods.
    #[error("what sshd told of this login is longer than {MAX_AUTH_INFO} bytes or {MAX_METHODS} methods")]
    TooLong,
}

/// Reads the variable's value. Whatever is wrong with it comes out of [`AuthInfo::plain_keys`].
#[must_use]
pub fn parse(text: &str) -> AuthInfo {
    let mut info = AuthInfo { methods: Vec::new(), keys: Vec::new(), broken: None };
    if text.len() > MAX_AUTH_INFO || text.lines().count() > MAX_METHODS {
        info.broken = Some(Why::TooLong);
        return info;
    }
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n').filter(|_| !text.is_empty()) {
        let (method, rest) = line.split_once(' ').unwrap_or((line, ""));
        if !is_method(method) {
            info.broken = Some(Why::Malformed);
            return info;
        }
        info.methods.push(method.to_owned());
        // Any other method beside the key is one factor more: it gives nobody leave that the key does not give.
        if method.split('/').next() == Some("publickey") {
            info.keys.push(plain_key(rest));
        }
    }
    info
}

fn is_method(word: &str) -> bool {
    (1..=64).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_./@".contains(&byte))
}

/// `TYPE BASE64`, exactly as sshd writes it.
fn plain_key(text: &str) -> Result<Key, Why> {
    let (word, base64) = text.split_once(' ').ok_or(Why::Malformed)?;
    if wire::is_certificate_name(word.as_bytes()) {
        return Err(Why::Certificate);
    }
    let (_, data) = wire::read_base64(base64.as_bytes()).map_err(|error| match error {
        wire::BlobError::Certificate => Why::Certificate,
        _ => Why::Malformed,
    })?;
    let key = Key::new(data);
    if key.algorithm() == word && key.base64() == base64 { Ok(key) } else { Err(Why::Malformed) }
}

impl AuthInfo {
    /// The methods' names in sshd's order, as `publickey` or `keyboard-interactive/pam`: at most [`MAX_METHODS`], of
    /// harmless characters.
    #[must_use]
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// Whether the person was asked for something beside the key, by whatever PAM asks with.
    #[must_use]
    pub fn has_second_method(&self) -> bool {
        self.methods.iter().any(|method| method.split('/').next() == Some(SECOND_METHOD))
    }

    /// The keys that this login was let in by, in sshd's order: one, or several where `AuthenticationMethods` asks for them.
    ///
    /// # Errors
    /// [`Why`], unless plain public keys alone were verified, beside whatever other methods.
    pub fn plain_keys(&self) -> Result<Vec<Key>, Why> {
        match (self.broken, self.keys.as_slice()) {
            (Some(why), _) => Err(why),
            (None, []) => Err(Why::NoKey),
            (None, keys) => keys.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::test_keys::{CERTIFICATE, ED25519, ED25519_FINGERPRINT, P256, RSA, RSA_FINGERPRINT};

    fn single(text: &str) -> Result<String, Why> {
        parse(text)
            .plain_keys()
            .map(|keys| keys.iter().map(|key| key.fingerprint().to_string()).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn one_plain_key_is_named_whatever_stands_beside_it() {
        assert_eq!(single(&format!("publickey {ED25519}\n")), Ok(ED25519_FINGERPRINT.to_owned()));
        assert_eq!(single(&format!("publickey {RSA}")), Ok(RSA_FINGERPRINT.to_owned()));
        let beside = format!("publickey {ED25519}\nkeyboard-interactive/pam\npassword\n");
        assert_eq!(single(&beside), Ok(ED25519_FINGERPRINT.to_owned()));
        assert_eq!(parse(&beside).methods(), ["publickey", "keyboard-interactive/pam", "password"]);
        assert_eq!(
            single(&format!("hostbased {P256} root client.example\npublickey {ED25519}\n")),
            Ok(ED25519_FINGERPRINT.to_owned())
        );
    }

    #[test]
    fn only_keyboard_interactive_is_a_second_method() {
        for (beside, is_one) in [
            ("keyboard-interactive/pam", true),
            ("keyboard-interactive", true),
            ("password", false),
            ("keyboard-interactivex", false),
            ("gssapi-with-mic", false),
        ] {
            assert_eq!(parse(&format!("publickey {ED25519}\n{beside}\n")).has_second_method(), is_one, "{beside}");
            assert_eq!(parse(&format!("{beside}\npublickey {ED25519}\n")).has_second_method(), is_one, "{beside}");
        }
        assert!(!parse(&format!("publickey {ED25519}\npublickey {RSA}\n")).has_second_method());
    }

    #[test]
    fn of_several_keys_none_is_left_out() {
        let both = format!("{ED25519_FINGERPRINT},{RSA_FINGERPRINT}");
        assert_eq!(single(&format!("publickey {ED25519}\npublickey {RSA}\n")), Ok(both));
    }

    #[test]
    fn anything_but_plain_keys_is_refused() {
        assert_eq!(single(""), Err(Why::NoKey));
        assert_eq!(single("password\n"), Err(Why::NoKey));
        assert_eq!(single(&format!("hostbased {P256} root client.example\n")), Err(Why::NoKey));
        assert_eq!(single(&format!("publickey {CERTIFICATE}\n")), Err(Why::Certificate));
        assert_eq!(
            single(&format!("publickey {}\n", CERTIFICATE.replacen("-cert-v01@openssh.com", "", 1))),
            Err(Why::Certificate)
        );
        assert_eq!(single(&format!("publickey {ED25519}\npublickey {CERTIFICATE}\n")), Err(Why::Certificate));
    }

    #[test]
    fn what_sshd_does_not_write_is_malformed() {
        for text in [
            "\n".to_owned(),
            "publickey\n".to_owned(),
            "publickey ssh-ed25519\n".to_owned(),
            "publickey ssh-ed25519 AAAA\n".to_owned(),
            format!("publickey {ED25519} frank\n"),
            format!("publickey  {ED25519}\n"),
            format!(" publickey {ED25519}\n"),
            format!("publickey {ED25519}\r\n"),
            format!("publickey {ED25519}\n\n"),
            format!("publickey {ED25519}\nPUBLICKEY {P256}\n"),
            format!("publickey {}\n", RSA.replace("ssh-rsa ", "rsa-sha2-512 ")),
            format!("publickey {}\n", ED25519.replace("ssh-ed25519 ", "ssh-rsa ")),
        ] {
            assert_eq!(single(&text), Err(Why::Malformed), "{text:?}");
        }
    }

    #[test]
    fn past_its_bounds_nothing_is_read() {
        let line = format!("publickey {ED25519}\n");
        assert_eq!(
            single(&format!("{line}{}", "password\n".repeat(MAX_METHODS - 1))),
            Ok(ED25519_FINGERPRINT.to_owned())
        );
        assert_eq!(single(&format!("{line}{}", "password\n".repeat(MAX_METHODS))), Err(Why::TooLong));
        assert_eq!(single(&format!("{line}gssapi-with-mic {}", "x".repeat(MAX_AUTH_INFO))), Err(Why::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_is_taken_for_a_key_that_is_not_there(text in "(publickey|password|[a-z\n ]{0,9})(\\PC|\n){0,80}") {
            prop_assert!(single(&text).is_err());
        }
    }
}
