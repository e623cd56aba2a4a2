//! A file of profiles, as other programs of AWS have it. No I/O.

use std::collections::BTreeMap;

use super::Credentials;

/// The credentials of a profile.
///
/// # Errors
/// Why there are none, in words.
pub(super) fn credentials(text: &str, profile: &str) -> Result<Credentials, String> {
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
    Ok(Credentials {
        access_key: needed("aws_access_key_id")?,
        secret: needed("aws_secret_access_key")?,
        token: value("aws_session_token"),
        from: format!("the profile {profile}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_among_others() {
        let text = "[default]\naws_access_key_id = A\n#aws_secret_access_key = x\naws_secret_access_key=B\n\n[profile b]\n\
                    aws_access_key_id=C\naws_secret_access_key = D=\naws_session_token = E\n[c]\naws_access_key_id=F\n";
        let of = |profile| credentials(text, profile);
        let a = of("default").unwrap();
        assert_eq!((a.access_key.as_str(), a.secret.as_str(), a.token), ("A", "B", None));
        let b = of("b").unwrap();
        assert_eq!((b.secret.as_str(), b.token.as_deref()), ("D=", Some("E")));
        assert!(of("c").unwrap_err().contains("aws_secret_access_key"));
        assert!(of("d").unwrap_err().contains("[d]"));
    }
}
