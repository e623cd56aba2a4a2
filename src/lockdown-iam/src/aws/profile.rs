//! A file of profiles, as other programs of AWS have it. No I/O.

use std::collections::BTreeMap;

use super::Credentials;

/// What a profile has.
#[derive(Debug)]
pub(super) enum Found {
    /// Credentials.
    Keys(Credentials),
    /// A program that prints some.
    Process(String),
}

/// What a profile has.
///
/// # Errors
/// Why there are none, in words.
pub(super) fn credentials(text: &str, profile: &str) -> Result<Found, String> {
    let mut within = false;
    let mut found = false;
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let name = name.trim();
            within = name.strip_prefix("profile ").map_or(name, str::trim) == profile;
            found |= within;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| within && !line.starts_with(['#', ';'])) {
            values.insert(name.trim(), value.trim());
        }
    }
    if !found {
        return Err(format!("there is no profile [{profile}]"));
    }
    let value = |name| values.get(name).filter(|value| !value.is_empty()).map(|value| (*value).to_owned());
    let needed = |name| value(name).ok_or_else(|| format!("the profile [{profile}] has no {name}"));
    if value("aws_access_key_id").is_none() {
        if let Some(command) = value("credential_process") {
            return Ok(Found::Process(command));
        }
        if values.keys().any(|name| name.starts_with("sso_")) {
            return Err(format!(
                "the profile [{profile}] is a sign-in by SSO: name another one with credential_process = aws configure \
                 export-credentials --profile {profile} --format process"
            ));
        }
    }
    Ok(Found::Keys(Credentials {
        access_key: needed("aws_access_key_id")?,
        secret: needed("aws_secret_access_key")?,
        token: value("aws_session_token"),
        from: format!("the profile {profile}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_among_others() {
        let text = "[default]\naws_access_key_id = A\n#aws_secret_access_key = x\naws_secret_access_key=B\n\n[profile b]\n\
                    aws_access_key_id=C\naws_secret_access_key = D=\naws_session_token = E\n[c]\naws_access_key_id=F\n";
        let of = |profile| match credentials(text, profile)? {
            Found::Keys(found) => Ok(found),
            Found::Process(command) => Err(command),
        };
        let a = of("default").unwrap();
        assert_eq!((a.access_key.as_str(), a.secret.as_str(), a.token), ("A", "B", None));
        let b = of("b").unwrap();
        assert_eq!((b.secret.as_str(), b.token.as_deref()), ("D=", Some("E")));
        assert!(of("c").unwrap_err().contains("aws_secret_access_key"));
        assert!(of("d").unwrap_err().contains("[d]"));
        let text = "[sso]\nsso_session = acme\n[default]\ncredential_process = /usr/bin/aws export --format=process\n";
        assert!(credentials(text, "sso").unwrap_err().contains("export-credentials --profile sso"));
        let found = credentials(text, "default").unwrap();
        assert!(matches!(found, Found::Process(command) if command == "/usr/bin/aws export --format=process"));
    }
}
