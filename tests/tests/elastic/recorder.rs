//! What stands in for Elasticsearch, which Debian does not carry: its bulk API, as far as rsyslog uses it. It takes a document once,
//! is too busy for every third at first, and keeps what came.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex},
    thread,
};

use instance_tests::Instance;
use jiff::Timestamp;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

/// Where packaging/elastic looks for it.
const ADDRESS: &str = "127.0.0.1:9200";

/// What came, by index and id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    documents: BTreeMap<(String, String), Value>,
    /// Those that it was too busy for, once.
    put_off: BTreeSet<(String, String)>,
    /// How often a document came that was there.
    again: usize,
    /// What Elasticsearch would have refused.
    refused: Vec<String>,
}

impl Recorder {
    /// Begins to listen in the network of an instance.
    pub(crate) fn start(instance: &Instance) -> Self {
        let recorder = Self::default();
        let network = File::open(format!("/proc/{}/ns/net", instance.leader())).expect("the instance runs");
        // A thread alone changes its network: what it opens there stays there.
        let listener = thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).expect("tests run as root");
            TcpListener::bind(ADDRESS).expect("nobody else listens there")
        });
        let listener = listener.join().expect("it listens");
        let kept = recorder.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                thread::spawn(move || kept.serve(stream));
            }
        });
        recorder
    }

    /// The documents of this index, by their ids.
    pub(crate) fn documents(&self, index: &str) -> BTreeMap<String, Value> {
        let kept = self.0.lock().expect("no thread panicked");
        let of_index = kept.documents.iter().filter(|((of, _), _)| of == index);
        of_index.map(|((_, id), document)| (id.clone(), document.clone())).collect()
    }

    /// How often a document came that was there, how many were put off, and what would have been refused.
    pub(crate) fn troubles(&self) -> (usize, usize, Vec<String>) {
        let kept = self.0.lock().expect("no thread panicked");
        (kept.again, kept.put_off.len(), kept.refused.clone())
    }

    /// Answers the requests of one connection, until it ends.
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut to = stream.try_clone().ok()?;
        let mut from = BufReader::new(stream);
        loop {
            let mut request = String::new();
            from.read_line(&mut request).ok().filter(|read| *read > 0)?;
            let (mut length, mut waits) = (0, false);
            loop {
                let mut header = String::new();
                from.read_line(&mut header).ok()?;
                let header = header.trim().to_ascii_lowercase();
                if header.is_empty() {
                    break;
                }
                length = header.strip_prefix("content-length:").map_or(Some(length), |n| n.trim().parse().ok())?;
                waits |= header == "expect: 100-continue";
            }
            if waits {
                to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
            }
            let mut body = vec![0; length];
            from.read_exact(&mut body).ok()?;
            let bulk = request.starts_with("POST /_bulk");
            let answer = if bulk { self.bulk(&String::from_utf8_lossy(&body)) } else { json!({}) }.to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                if request.starts_with("HEAD") { 0 } else { answer.len() }
            );
            to.write_all(head.as_bytes()).ok()?;
            to.write_all(if request.starts_with("HEAD") { b"" } else { answer.as_bytes() }).ok()?;
        }
    }

    fn bulk(&self, body: &str) -> Value {
        let mut kept = self.0.lock().expect("no thread panicked");
        let mut items = Vec::new();
        let mut lines = body.lines();
        while let (Some(action), document) = (lines.next(), lines.next()) {
            items.push(json!({"create": kept.take(action, document.unwrap_or_default())}));
        }
        let errors = items.iter().any(|item| item["create"]["status"] != 201);
        json!({"took": 1, "errors": errors, "items": items})
    }
}

impl Kept {
    /// What a data stream does with one document: it is created, or was.
    fn take(&mut self, action: &str, document: &str) -> Value {
        let parsed = serde_json::from_str(action).ok().zip(serde_json::from_str(document).ok());
        let read = parsed.as_ref().and_then(|(action, document): &(Value, Value)| {
            let create = action.get("create")?.as_object()?;
            // A data stream takes nothing else, and no version of today a `_type`.
            let known = create.keys().all(|key| key == "_index" || key == "_id");
            let place = (create.get("_index")?.as_str()?.to_owned(), create.get("_id")?.as_str()?.to_owned());
            document.get("@timestamp")?.as_str()?.parse::<Timestamp>().ok().filter(|_| known)?;
            Some((place, document.clone()))
        });
        let Some((place, document)) = read else {
            self.refused.push(format!("{action}\n{document}"));
            return json!({"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "malformed"}});
        };
        if self.documents.contains_key(&place) {
            self.again += 1;
            let error = json!({"type": "version_conflict_engine_exception", "reason": "document already exists"});
            return json!({"_index": place.0, "_id": place.1, "status": 409, "error": error});
        }
        if (self.documents.len() + self.put_off.len()).is_multiple_of(3) && self.put_off.insert(place.clone()) {
            let error = json!({"type": "es_rejected_execution_exception", "reason": "too busy"});
            return json!({"_index": place.0, "_id": place.1, "status": 429, "error": error});
        }
        let answer = json!({"_index": place.0, "_id": place.1, "status": 201, "result": "created"});
        self.documents.insert(place, document);
        answer
    }
}
