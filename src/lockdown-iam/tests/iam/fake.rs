//! An IAM that answers as a test has it: page by page, and wrongly. Who asks, it does not check: moto does.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

pub const ACCOUNT: &str = "111122223333";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status, with this code in an answer of AWS.
    Error(u16, &'static str),
    /// This status, with a page that is not AWS's.
    Page(u16),
    /// The answer ends after half of it.
    HalfOfTheText,
    /// The connection ends after half of what was announced.
    HalfOfTheBody,
    /// The connection ends without an answer.
    HangUp,
    /// Nothing comes, and the connection stays.
    Silence,
    /// No users, and no more pages.
    Empty,
    /// The second page is passed over.
    PageMissing,
    /// Each page says that the first one comes next.
    Circle,
    /// The group of another name.
    OtherGroup,
    /// The group of another account.
    OtherAccount,
    /// More bytes than anybody wants.
    Endless,
    /// The users in another order.
    Reversed,
}

#[derive(Debug, Clone, Default)]
pub struct User {
    pub id: String,
    pub tags: BTreeMap<String, String>,
    /// By their ids; whether they are active.
    pub keys: BTreeMap<String, (String, bool)>,
}

#[derive(Debug, Default)]
pub struct State {
    pub users: BTreeMap<String, User>,
    pub groups: BTreeMap<String, Vec<String>>,
    /// How many entries a page has.
    pub page: usize,
    /// What goes wrong with which action, and how often.
    pub fault: Option<(&'static str, Fault, u32)>,
    pub calls: BTreeMap<String, u64>,
}

/// The server. It goes with the test's process.
#[derive(Debug, Clone)]
pub struct Fake {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let state = Arc::new(Mutex::new(State { page: 2, ..State::default() }));
        let fake = Self { endpoint, state: Arc::clone(&state) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                thread::spawn(move || while answer(&stream, &state).is_some() {});
            }
        });
        fake
    }

    pub fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        what(&mut self.state.lock().unwrap())
    }

    /// A user in these groups.
    pub fn user(&self, name: &str, id: &str, groups: &[&str]) {
        self.with(|state| {
            state.users.insert(name.to_owned(), User { id: id.to_owned(), ..User::default() });
            for group in groups {
                state.groups.entry((*group).to_owned()).or_default().push(name.to_owned());
            }
        });
    }

    pub fn key(&self, user: &str, id: &str, body: &str) {
        self.with(|state| {
            state.users.get_mut(user).unwrap().keys.insert(id.to_owned(), (body.to_owned(), true));
        });
    }

    pub fn tag(&self, user: &str, key: &str, value: &str) {
        self.with(|state| {
            state.users.get_mut(user).unwrap().tags.insert(key.to_owned(), value.to_owned());
        });
    }

    pub fn delete(&self, user: &str) {
        self.leave(user);
        self.with(|state| drop(state.users.remove(user)));
    }

    pub fn leave(&self, user: &str) {
        self.with(|state| state.groups.values_mut().for_each(|group| group.retain(|name| name != user)));
    }

    pub fn goes_wrong(&self, action: &'static str, fault: Fault, times: u32) {
        self.with(|state| state.fault = Some((action, fault, times)));
    }

    pub fn is_well(&self) {
        self.with(|state| state.fault = None);
    }

    /// How often each action was called since this was asked last.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.with(|state| std::mem::take(&mut state.calls))
    }

    /// The configuration's part about AWS, with these groups, all for ubuntu on web.
    pub fn lines(&self, groups: &[&str]) -> String {
        let group =
            |name: &&str| format!("[[account.group]]\nname = \"{name}\"\naccounts = {{ web = [\"ubuntu\"] }}\n");
        let groups: String = groups.iter().map(group).collect();
        format!(
            "[aws]\nendpoint = \"{0}\"\nsts_endpoint = \"{0}\"\n[[account]]\nid = \"{ACCOUNT}\"\n{groups}",
            self.endpoint
        )
    }
}

/// Answers one request; none once nothing more comes.
fn answer(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let form = request(stream)?;
    let action = form.get("Action")?.clone();
    let mut state = state.lock().unwrap();
    *state.calls.entry(action.clone()).or_default() += 1;
    let fault = match &mut state.fault {
        Some((of, fault, times)) if *of == action && *times > 0 => {
            *times -= 1;
            Some(*fault)
        }
        _ => None,
    };
    let (status, text) = match fault {
        Some(Fault::Error(status, code)) => (status, error(code)),
        Some(Fault::Page(status)) => (status, "<html>busy</html>".to_owned()),
        fault => said(&state, &action, &form, fault),
    };
    drop(state);
    let mut stream = stream;
    match fault {
        Some(Fault::HangUp) => return None,
        Some(Fault::Silence) => loop {
            thread::park();
        },
        Some(Fault::HalfOfTheText) => send(stream, status, &text[..text.len() / 2], text.len() / 2),
        Some(Fault::HalfOfTheBody) => {
            send(stream, status, &text[..text.len() / 2], text.len());
            return None;
        }
        Some(Fault::Endless) => {
            send(stream, status, "", usize::MAX / 2);
            while stream.write_all(&[b' '; 65536]).is_ok() {}
            return None;
        }
        _ => send(stream, status, &text, text.len()),
    }
    Some(())
}

fn send(mut stream: &TcpStream, status: u16, text: &str, length: usize) {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: text/xml\r\ncontent-length: {length}\r\n\r\n");
    let _ = stream.write_all(format!("{head}{text}").as_bytes());
}

fn request(stream: &TcpStream) -> Option<BTreeMap<String, String>> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line).ok()? > 0 && line != "\r\n" {
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), decoded(value)));
    let form: BTreeMap<_, _> = String::from_utf8(body).ok()?.split('&').filter_map(pair).collect();
    (!form.is_empty()).then_some(form)
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [a, b, tail @ ..]) => {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&[*a, *b]).unwrap(), 16).unwrap());
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn error(code: &str) -> String {
    format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>because</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )
}

fn said(state: &State, action: &str, form: &BTreeMap<String, String>, fault: Option<Fault>) -> (u16, String) {
    if action == "GetGroup" {
        return group(state, &form["GroupName"], form.get("Marker"), fault);
    }
    let name = &form["UserName"];
    let Some(user) = state.users.get(name) else { return (404, error("NoSuchEntity")) };
    let result = match action {
        "ListUserTags" => {
            let all: Vec<String> = user
                .tags
                .iter()
                .map(|(key, value)| format!("<member><Key>{key}</Key><Value>{value}</Value></member>"))
                .collect();
            let (members, rest) = page(&all, form.get("Marker"), state.page);
            format!("{rest}<Tags>{members}</Tags>")
        }
        "ListSSHPublicKeys" => {
            let all: Vec<String> = user
                .keys
                .iter()
                .map(|(id, (_, active))| {
                    let status = if *active { "Active" } else { "Inactive" };
                    format!("<member><SSHPublicKeyId>{id}</SSHPublicKeyId><Status>{status}</Status></member>")
                })
                .collect();
            let (members, rest) = page(&all, form.get("Marker"), state.page);
            format!("<SSHPublicKeys>{members}</SSHPublicKeys>{rest}")
        }
        _ => {
            let id = &form["SSHPublicKeyId"];
            let Some((body, _)) = user.keys.get(id) else { return (404, error("NoSuchEntity")) };
            format!(
                "<SSHPublicKey><UserName>{name}</UserName><SSHPublicKeyId>{id}</SSHPublicKeyId><SSHPublicKeyBody>{body}</SSHPublicKeyBody><Status>Active</Status></SSHPublicKey>"
            )
        }
    };
    (200, format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>"))
}

fn group(state: &State, name: &str, marker: Option<&String>, fault: Option<Fault>) -> (u16, String) {
    let Some(members) = state.groups.get(name) else { return (404, error("NoSuchEntity")) };
    let account = if fault == Some(Fault::OtherAccount) { "999999999999" } else { ACCOUNT };
    let mut all: Vec<String> = members
        .iter()
        .map(|user| {
            let id = &state.users[user].id;
            format!("<member><Path>/</Path><UserName>{user}</UserName><UserId>{id}</UserId><Arn>arn:aws:iam::{account}:user/{user}</Arn></member>")
        })
        .collect();
    let mut marker = marker.cloned();
    match fault {
        Some(Fault::Empty) => all.clear(),
        Some(Fault::Reversed) => all.reverse(),
        Some(Fault::PageMissing) => {
            drop(all.drain(state.page..(2 * state.page).min(all.len())));
        }
        Some(Fault::Circle) => marker = None,
        _ => {}
    }
    let (members, rest) = page(&all, marker.as_ref(), state.page);
    let called = if fault == Some(Fault::OtherGroup) { "other" } else { name };
    let text = format!(
        "<?xml version=\"1.0\"?><GetGroupResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><GetGroupResult>\
         <Group><Path>/</Path><GroupName>{called}</GroupName><GroupId>AGPA</GroupId><Arn>arn:aws:iam::{account}:group/{called}</Arn></Group>\
         <Users>{members}</Users>{rest}</GetGroupResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetGroupResponse>"
    );
    (200, text)
}

fn page(all: &[String], marker: Option<&String>, size: usize) -> (String, String) {
    let begin: usize = marker.map_or(0, |marker| marker.parse().unwrap()).min(all.len());
    let end = (begin + size).min(all.len());
    let more = end < all.len();
    let next = if more { format!("<Marker>{end}</Marker>") } else { String::new() };
    (all[begin..end].concat(), format!("<IsTruncated>{more}</IsTruncated>{next}"))
}
