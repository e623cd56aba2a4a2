//! A server in an adversary's hands: it speaks the protocol over TLS, and says what a test has it say.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::json;

use crate::laptop::Laptop;

/// What is answered.
#[derive(Debug, Clone)]
pub enum Reply {
    Json(u16, String),
    Redirect(String),
    /// A body without an end.
    Endless,
    /// That the document that was sent waits for more approvals.
    Pending,
    /// Nothing at all.
    Silence,
}

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub body: String,
}

type Replies = Arc<Mutex<BTreeMap<String, Reply>>>;

/// The server. It goes with the test's process.
pub struct Liar {
    pub origin: String,
    replies: Replies,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A certificate's authority, and a certificate for localhost with its key.
pub struct Certificates {
    pub authority: String,
    pub certificate: String,
    pub key: KeyPair,
}

pub fn certificates() -> Certificates {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    Certificates { authority: issuer.pem(), certificate: certificate.pem(), key }
}

impl Liar {
    /// One that answers as a server with nothing in it would, and a laptop that goes to it. The roster of the laptop's draft is signed,
    /// and the server has it.
    pub fn start(approvals: u8) -> (Self, Laptop) {
        let certificates = certificates();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let laptop = Laptop::new(Some(&origin));
        laptop.write("ca.pem", &certificates.authority);
        let (replies, asked) = (Replies::default(), Arc::default());
        let liar = Self { origin, replies, asked };
        liar.listen(listener, &certificates);
        laptop.sign_roster(&laptop.draft(approvals), "1");
        liar.reply(
            "POST /v1/sessions/challenge",
            json!({ "nonce": "n".repeat(43), "origin": liar.origin, "expires_in": 60 }),
        );
        liar.reply(
            "POST /v1/sessions",
            json!({ "token": "ca_session_x", "person": "alice", "expires_at": "2099-01-01T00:00:00Z" }),
        );
        liar.has(&laptop, &["roster.json"]);
        (liar, laptop)
    }

    /// Has these files in its feeds, and the first of them as its roster.
    pub fn has(&self, laptop: &Laptop, files: &[&str]) {
        let envelope = |file: &&str| -> serde_json::Value { serde_json::from_str(&laptop.read(file)).unwrap() };
        let documents: Vec<_> = files.iter().map(|file| json!({ "id": "x", "envelope": envelope(file) })).collect();
        self.reply("GET /v1/feed", json!({ "documents": documents }));
        self.reply("GET /v1/roster", json!({ "version": 1, "id": "x", "envelope": envelope(&files[0]) }));
        self.reply(
            "GET /v1/status",
            json!({ "stacks": [{ "stack": "web", "hosts": [{ "host": "i-1", "name": "web-1" }] }] }),
        );
    }

    /// What it says from now on to requests that begin so.
    pub fn reply(&self, request: &str, value: serde_json::Value) {
        self.reply_with(request, Reply::Json(200, value.to_string()));
    }

    pub fn reply_with(&self, request: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(request.to_owned(), reply);
    }

    /// What was asked so far: method and path.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often something that begins so was asked.
    pub fn count(&self, request: &str) -> usize {
        self.asked().iter().filter(|asked| format!("{} {}", asked.method, asked.path).starts_with(request)).count()
    }

    fn listen(&self, listener: TcpListener, certificates: &Certificates) {
        let chain = rustls_pem(&certificates.certificate);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certificates.key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let (config, replies, asked) = (Arc::new(config), Arc::clone(&self.replies), Arc::clone(&self.asked));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, replies, asked) = (Arc::clone(&config), Arc::clone(&replies), Arc::clone(&asked));
                thread::spawn(move || serve(stream, config, &replies, &asked));
            }
        });
    }
}

fn rustls_pem(pem: &str) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

/// Answers requests until the client has gone.
fn serve(stream: TcpStream, config: Arc<ServerConfig>, replies: &Replies, asked: &Mutex<Vec<Asked>>) {
    let Ok(connection) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    while let Some(request) = read(&mut stream) {
        let line = format!("{} {}", request.method, request.path);
        let longest = {
            let replies = replies.lock().unwrap();
            let fitting = replies.iter().filter(|(begins, _)| line.starts_with(begins.as_str()));
            fitting.max_by_key(|(begins, _)| begins.len()).map(|(_, reply)| reply.clone())
        };
        asked.lock().unwrap().push(request.clone());
        let reply = match longest {
            None if request.method == "POST" && request.path == "/v1/documents" => taken(&request, "published"),
            None => Reply::Json(404, json!({ "code": "not_found", "detail": "there is none" }).to_string()),
            Some(Reply::Pending) => taken(&request, "pending"),
            Some(reply) => reply,
        };
        if answer(&mut stream, reply).is_err() {
            return;
        }
    }
}

/// What is answered to a document that was taken.
fn taken(request: &Asked, state: &str) -> Reply {
    let envelope = document::Envelope::parse(request.body.as_bytes()).unwrap();
    let document = envelope.document();
    let state = json!({
        "id": document.id(), "type": document.kind().as_str(), "state": state, "stacks": ["web"], "has": 1, "needs": 2,
        "approvers": ["alice"], "asked": false, "detail": "x"
    });
    Reply::Json(200, state.to_string())
}

fn read(stream: &mut impl Read) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(Asked { method, path, body: String::from_utf8(body).ok()? })
}

fn answer(stream: &mut impl Write, reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Json(status, body) => {
            let kind = if status == 200 { "application/json" } else { "application/problem+json" };
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
        }
        Reply::Redirect(to) => write!(stream, "HTTP/1.1 307 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")?,
        Reply::Endless => {
            write!(stream, "HTTP/1.1 200 X\r\nContent-Type: application/json\r\n\r\n[")?;
            loop {
                stream.write_all(&[b' '; 65536])?;
            }
        }
        Reply::Silence | Reply::Pending => thread::sleep(Duration::from_secs(3600)),
    }
    stream.flush()
}
