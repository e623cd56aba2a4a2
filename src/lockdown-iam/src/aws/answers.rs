//! What IAM and STS answer, parsed to what it has to be: a part of an answer is none. No I/O.

use quick_xml::{Reader, events::Event};
use serde::{Deserialize, de::DeserializeOwned};

/// The longest marker of a next page, in bytes.
const MAX_MARKER: usize = 8 << 10;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page<T> {
    /// What is on it.
    pub(crate) members: Vec<T>,
    /// Where the next one begins; none after the last one.
    pub(crate) marker: Option<String>,
}

/// A user as `GetGroup` lists them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ListedUser {
    #[serde(rename = "UserName")]
    pub(crate) name: String,
    #[serde(rename = "UserId")]
    pub(crate) id: String,
    #[serde(rename = "Arn")]
    pub(crate) arn: String,
}

/// Whether a key counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum KeyStatus {
    Active,
    Inactive,
}

/// A key as `ListSSHPublicKeys` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ListedKey {
    #[serde(rename = "SSHPublicKeyId")]
    pub(crate) id: String,
    #[serde(rename = "Status")]
    pub(crate) status: KeyStatus,
}

/// A user's tags, by their keys.
pub(crate) type Tags = std::collections::BTreeMap<String, String>;

#[derive(Deserialize)]
struct List<T> {
    #[serde(rename = "member", default = "Vec::new")]
    members: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetGroup {
    get_group_result: GetGroupResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetGroupResult {
    group: GroupItself,
    users: List<ListedUser>,
    is_truncated: Option<bool>,
    marker: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GroupItself {
    group_name: String,
    arn: String,
}

/// A page of `GetGroup`: the group's name and ARN, and users.
pub(super) fn group(text: &str) -> Result<(String, String, Page<ListedUser>), String> {
    let GetGroup { get_group_result: it } = answer("GetGroupResponse", text)?;
    Ok((it.group.group_name, it.group.arn, page(it.users, it.is_truncated, it.marker)?))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListUserTags {
    list_user_tags_result: ListUserTagsResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListUserTagsResult {
    tags: List<Tag>,
    is_truncated: Option<bool>,
    marker: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

/// A page of `ListUserTags`.
pub(super) fn tags(text: &str) -> Result<Page<(String, String)>, String> {
    let ListUserTags { list_user_tags_result: it } = answer("ListUserTagsResponse", text)?;
    let Page { members, marker } = page(it.tags, it.is_truncated, it.marker)?;
    Ok(Page { members: members.into_iter().map(|tag| (tag.key, tag.value)).collect(), marker })
}

#[derive(Deserialize)]
struct ListKeys {
    #[serde(rename = "ListSSHPublicKeysResult")]
    result: ListKeysResult,
}

#[derive(Deserialize)]
struct ListKeysResult {
    #[serde(rename = "SSHPublicKeys")]
    keys: List<ListedKey>,
    #[serde(rename = "IsTruncated")]
    is_truncated: Option<bool>,
    #[serde(rename = "Marker")]
    marker: Option<String>,
}

/// A page of `ListSSHPublicKeys`.
pub(super) fn keys(text: &str) -> Result<Page<ListedKey>, String> {
    let ListKeys { result: it } = answer("ListSSHPublicKeysResponse", text)?;
    page(it.keys, it.is_truncated, it.marker)
}

#[derive(Deserialize)]
struct GetKey {
    #[serde(rename = "GetSSHPublicKeyResult")]
    result: GetKeyResult,
}

#[derive(Deserialize)]
struct GetKeyResult {
    #[serde(rename = "SSHPublicKey")]
    key: Key,
}

#[derive(Deserialize)]
struct Key {
    #[serde(rename = "UserName")]
    user: String,
    #[serde(rename = "SSHPublicKeyId")]
    id: String,
    #[serde(rename = "SSHPublicKeyBody")]
    body: String,
}

/// `GetSSHPublicKey`: the key's body, where it is this user's key of this id.
pub(super) fn key(text: &str, user: &str, id: &str) -> Result<String, String> {
    let GetKey { result: GetKeyResult { key } } = answer("GetSSHPublicKeyResponse", text)?;
    if key.id != id || key.user != user {
        return Err(format!("it is about the key {} of {}", key.id, key.user));
    }
    Ok(key.body)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeRole {
    assume_role_result: AssumeRoleResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeRoleResult {
    credentials: OfRole,
}

/// The credentials of a role that was assumed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OfRole {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: String,
}

/// `AssumeRole`.
pub(super) fn role(text: &str) -> Result<OfRole, String> {
    let AssumeRole { assume_role_result: it } = answer("AssumeRoleResponse", text)?;
    Ok(it.credentials)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorResponse {
    error: Option<Problem>,
    /// What stands in front of IAM, and refuses who may not ask, has it one deeper.
    errors: Option<Errors>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Errors {
    error: Problem,
}

/// What AWS says about a failure.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Problem {
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

/// An answer about a failure, where it is one.
pub(super) fn problem(text: &str) -> Option<Problem> {
    let it: ErrorResponse = answer("ErrorResponse", text).ok()?;
    it.error.or(it.errors.map(|errors| errors.error))
}

/// A page of a whole answer. Its model lets an answer leave `IsTruncated` out where nothing follows.
fn page<T>(list: List<T>, is_truncated: Option<bool>, marker: Option<String>) -> Result<Page<T>, String> {
    let marker = marker.filter(|marker| !marker.is_empty());
    let is_truncated = is_truncated.unwrap_or(marker.is_some());
    match (is_truncated, marker) {
        (true, None) => Err("it says that there is more, and not where".to_owned()),
        (true, Some(marker)) if marker.len() > MAX_MARKER => Err("its marker is too long".to_owned()),
        (true, marker) => Ok(Page { members: list.members, marker }),
        (false, _) => Ok(Page { members: list.members, marker: None }),
    }
}

/// A whole answer with this root. serde looks at no root, and at nothing behind it.
fn answer<T: DeserializeOwned>(root: &str, text: &str) -> Result<T, String> {
    whole(root, text)?;
    quick_xml::de::from_str(text).map_err(|error| error.to_string())
}

/// Whether a text is one element of this name, opened and closed, and nothing else.
fn whole(root: &str, text: &str) -> Result<(), String> {
    let mut reader = Reader::from_str(text);
    let (mut depth, mut roots) = (0_usize, 0);
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(start) => {
                if depth == 0 {
                    roots += 1;
                    if roots > 1 || start.local_name().as_ref() != root {
                        return Err(format!("it is no {root}"));
                    }
                }
                depth += 1;
            }
            Event::Empty(_) if depth == 0 => return Err(format!("it is no {root}")),
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::DocType(_) => return Err("it has a document type".to_owned()),
            Event::Text(text) if depth == 0 && !text.trim().is_empty() => {
                return Err("there is text around it".to_owned());
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if depth == 0 && roots == 1 { Ok(()) } else { Err("it is cut short".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = r#"<?xml version="1.0"?>
<GetGroupResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">
  <GetGroupResult>
    <Group><Path>/</Path><GroupName>dev</GroupName><GroupId>AGPA1</GroupId><Arn>arn:aws:iam::111122223333:group/dev</Arn></Group>
    <Users>
      <member><Path>/x/</Path><UserName>a+b=c,d.@_-</UserName><UserId>AIDA1</UserId><Arn>arn:aws:iam::111122223333:user/x/a</Arn></member>
      <member><Path>/</Path><UserName>b</UserName><UserId>AIDA2</UserId><Arn>arn:aws:iam::111122223333:user/b</Arn></member>
    </Users>
    <IsTruncated>true</IsTruncated><Marker>m&amp;1</Marker>
  </GetGroupResult>
  <ResponseMetadata><RequestId>7a62</RequestId></ResponseMetadata>
</GetGroupResponse>
"#;

    #[test]
    fn a_page_of_a_group_is_read_whole_or_not_at_all() {
        let (name, arn, page) = group(GROUP).unwrap();
        assert_eq!((name.as_str(), arn.as_str()), ("dev", "arn:aws:iam::111122223333:group/dev"));
        assert_eq!(page.marker.as_deref(), Some("m&1"));
        assert_eq!(page.members.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["a+b=c,d.@_-", "b"]);
        let closing = GROUP.trim_end().len();
        for cut in (0..closing).filter(|cut| GROUP.is_char_boundary(*cut)) {
            assert!(group(&GROUP[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_another_answer_is_none() {
        for (from, to) in [
            ("GetGroupResponse", "ListGroupsResponse"),
            ("<IsTruncated>true</IsTruncated>", "<IsTruncated>maybe</IsTruncated>"),
            ("<Marker>m&amp;1</Marker>", ""),
            ("<Marker>m&amp;1</Marker>", "<Marker/>"),
            ("<UserId>AIDA1</UserId>", ""),
            ("<Users>", "<Users></Users><IsTruncated>false</IsTruncated><Users>"),
            ("<?xml version=\"1.0\"?>", "<!DOCTYPE x [<!ENTITY m \"x\">]>"),
            ("<?xml version=\"1.0\"?>", "<ErrorResponse/>"),
            ("<?xml version=\"1.0\"?>", "oops"),
        ] {
            let text = GROUP.replace(from, to);
            assert_ne!(text, GROUP);
            assert!(group(&text).is_err(), "{from} {to}");
        }
        assert!(group(&format!("{GROUP}{GROUP}")).is_err());
        assert!(group("").is_err() && tags(GROUP).is_err() && problem(GROUP).is_none());
    }

    #[test]
    fn without_a_word_on_more_pages_a_marker_says_that_there_are_some() {
        let text = GROUP.replace("<IsTruncated>true</IsTruncated>", "");
        assert_eq!(group(&text).unwrap().2.marker.as_deref(), Some("m&1"));
        let text = text.replace("<Marker>m&amp;1</Marker>", "");
        assert_eq!(group(&text).unwrap().2.marker, None);
    }

    #[test]
    fn lists_may_be_empty_and_keys_have_to_be_the_ones_asked_for() {
        let text = "<ListUserTagsResponse><ListUserTagsResult><Tags/><IsTruncated>false</IsTruncated></ListUserTagsResult></ListUserTagsResponse>";
        assert_eq!(tags(text).unwrap(), Page { members: Vec::new(), marker: None });
        let text = "<ListUserTagsResponse><ListUserTagsResult><Tags><member><Key>a</Key><Value/></member></Tags><IsTruncated>false</IsTruncated></ListUserTagsResult></ListUserTagsResponse>";
        assert_eq!(tags(text).unwrap().members, [("a".to_owned(), String::new())]);
        let text = "<ListSSHPublicKeysResponse><ListSSHPublicKeysResult><IsTruncated>false</IsTruncated><SSHPublicKeys><member><UserName>a</UserName><SSHPublicKeyId>K1</SSHPublicKeyId><Status>Active</Status><UploadDate>2026</UploadDate></member><member><SSHPublicKeyId>K2</SSHPublicKeyId><Status>Inactive</Status></member></SSHPublicKeys></ListSSHPublicKeysResult></ListSSHPublicKeysResponse>";
        let listed = keys(text).unwrap().members;
        assert_eq!((listed[0].status, listed[1].status), (KeyStatus::Active, KeyStatus::Inactive));
        assert!(keys(&text.replace("Inactive", "Expired")).is_err());
        let text = "<GetSSHPublicKeyResponse><GetSSHPublicKeyResult><SSHPublicKey><UserName>a</UserName><SSHPublicKeyId>K1</SSHPublicKeyId><SSHPublicKeyBody>ssh-rsa AAAA</SSHPublicKeyBody><Status>Active</Status></SSHPublicKey></GetSSHPublicKeyResult></GetSSHPublicKeyResponse>";
        assert_eq!(key(text, "a", "K1").unwrap(), "ssh-rsa AAAA");
        assert!(key(text, "a", "K2").is_err() && key(text, "b", "K1").is_err());
    }
}
