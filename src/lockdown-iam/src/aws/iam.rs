//! The four actions of IAM, and the one of STS, that are called: nothing else is.

use std::collections::BTreeSet;

use super::{
    Access, CallError, Calls, Credentials, ListedKey, ListedUser, Service, Tags,
    answers::{self, Page},
};
use crate::config::AwsAccount;

/// The most pages of one list.
const MAX_PAGES: usize = 64;
/// How many entries of a list IAM is asked for at a time: as many as it gives.
const PAGE: &str = "1000";
/// How long a role is assumed for, in seconds: the least that there is.
const ROLE_SECONDS: &str = "900";

/// IAM, as one account has it.
#[derive(Debug)]
pub(crate) struct Iam {
    access: Access,
    account: String,
}

impl Iam {
    /// An account: by its own credentials, or by a role there that they assume.
    pub(crate) fn of(account: &AwsAccount, base: &Access, calls: &mut Calls) -> Result<Self, CallError> {
        let id = account.id.clone();
        let Some(role) = &account.role else {
            return Ok(Self { access: base.with(base.credentials().clone()), account: id });
        };
        let mut parameters =
            vec![("RoleArn", role.as_str()), ("RoleSessionName", "lockdown-iam"), ("DurationSeconds", ROLE_SECONDS)];
        parameters.extend(account.external_id.as_deref().map(|id| ("ExternalId", id)));
        let given = base.call(Service::Sts, "AssumeRole", &parameters, calls, answers::role)?;
        let credentials = Credentials {
            access_key: given.access_key_id,
            secret: given.secret_access_key,
            token: Some(given.session_token),
            from: role.clone(),
        };
        Ok(Self { access: base.with(credentials), account: id })
    }

    /// Where the credentials are from.
    pub(crate) fn whose(&self) -> &str {
        self.access.whose()
    }

    /// The users of a group, all of them or none.
    pub(crate) fn group(&self, name: &str, calls: &mut Calls) -> Result<Vec<ListedUser>, CallError> {
        let users = self.pages("GetGroup", &[("GroupName", name)], calls, |text| {
            let (found, arn, page) = answers::group(text)?;
            if !found.eq_ignore_ascii_case(name) {
                return Err(format!("it is about the group {found}"));
            }
            self.is_ours(&arn)?;
            page.members.iter().try_for_each(|user| self.is_ours(&user.arn))?;
            Ok(page)
        })?;
        let ids: BTreeSet<&str> = users.iter().map(|user| user.id.as_str()).collect();
        if ids.len() != users.len() {
            return Err(CallError::Failed(format!("iam:GetGroup: a user is twice in the group {name}")));
        }
        Ok(users)
    }

    /// Whether this is of the account that was meant: another one's users say nothing about this one's.
    fn is_ours(&self, arn: &str) -> Result<(), String> {
        match arn.split(':').nth(4) {
            Some(account) if account == self.account => Ok(()),
            other => Err(format!(
                "it is about the account {}, and account.id is {}",
                other.unwrap_or_default(),
                self.account
            )),
        }
    }

    /// A user's tags, all of them.
    pub(crate) fn tags(&self, user: &str, calls: &mut Calls) -> Result<Tags, CallError> {
        let tags = self.pages("ListUserTags", &[("UserName", user)], calls, answers::tags)?;
        Ok(tags.into_iter().collect())
    }

    /// A user's keys, all of them.
    pub(crate) fn keys(&self, user: &str, calls: &mut Calls) -> Result<Vec<ListedKey>, CallError> {
        self.pages("ListSSHPublicKeys", &[("UserName", user)], calls, answers::keys)
    }

    /// One key, as `authorized_keys` has it.
    pub(crate) fn key(&self, user: &str, id: &str, calls: &mut Calls) -> Result<String, CallError> {
        let parameters = [("UserName", user), ("SSHPublicKeyId", id), ("Encoding", "SSH")];
        self.access.call(Service::Iam, "GetSSHPublicKey", &parameters, calls, |text| answers::key(text, user, id))
    }

    fn pages<T>(
        &self,
        action: &'static str,
        parameters: &[(&str, &str)],
        calls: &mut Calls,
        read: impl Fn(&str) -> Result<Page<T>, String>,
    ) -> Result<Vec<T>, CallError> {
        let (mut all, mut marker, mut seen) = (Vec::new(), None::<String>, BTreeSet::new());
        for _ in 0..MAX_PAGES {
            let mut asked = parameters.to_vec();
            asked.push(("MaxItems", PAGE));
            asked.extend(marker.as_deref().map(|marker| ("Marker", marker)));
            let page = self.access.call(Service::Iam, action, &asked, calls, &read)?;
            all.extend(page.members);
            match page.marker {
                None => return Ok(all),
                Some(next) if !seen.insert(next.clone()) => {
                    return Err(CallError::Failed(format!("iam:{action}: its pages go round in a circle")));
                }
                next => marker = next,
            }
        }
        Err(CallError::Failed(format!("iam:{action}: it has more than {MAX_PAGES} pages")))
    }
}
