//! A feed whose server and carrier are in an adversary's hands, beside one that is not: it gives nobody access, keeps nothing
//! out, and what can be noticed is on record. And one that falls silent.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use document::{Document, Envelope, Grant, Namespace};
use instance_tests::{Company, DAEMON, House, Stack, eventually, step};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use ssh_key::{HashAlg, PrivateKey, private::Ed25519Keypair};

/// Where it listens, inside the instance: plain HTTP is for loopback alone.
const ADDRESS: &str = "127.0.0.1:9000";
const SOON: Duration = Duration::from_secs(40);
const HOUR: Duration = Duration::from_secs(3600);
/// What a document from the honest feed may take meanwhile, on a busy machine.
const PROMPT: Duration = Duration::from_secs(15);
/// How much memory each of the two may ever have had, in KiB; it is much less.
const MAX_MEMORY: u64 = 96 * 1024;
/// A problem of a feed is on record once it has lasted for a minute.
const ON_RECORD: Duration = Duration::from_secs(150);

/// What the server does with a request.
enum Reply {
    Answer(Value),
    Raw(Vec<u8>),
    /// A gigabyte, so much at a time and this long apart.
    Endless(usize, Duration),
    Hang,
}

/// Serves these in turn, for ever, from inside an instance's network; counts what was asked.
fn serve(host: &House, replies: Vec<Reply>) -> Arc<AtomicUsize> {
    let (asked, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let network = File::open(format!("/proc/{}/ns/net", host.leader())).expect("it runs");
    let (replies, counted) = (Arc::new(replies), asked.clone());
    thread::spawn(move || {
        setns(network, CloneFlags::CLONE_NEWNET).expect("root may");
        let listener = TcpListener::bind(ADDRESS).expect("nobody else listens there");
        for stream in listener.incoming().map_while(Result::ok) {
            let (replies, number) = (replies.clone(), count.fetch_add(1, Ordering::Relaxed));
            counted.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || answer(stream, &replies[number % replies.len()]));
        }
    });
    asked
}

/// Answers one request. What becomes of it on the way is the other side's concern.
fn answer(mut stream: TcpStream, reply: &Reply) {
    let reader = BufReader::new(stream.try_clone().expect("a descriptor to spare"));
    let _head = reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).count();
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    match reply {
        Reply::Answer(value) => {
            let body = value.to_string();
            let _ = stream.write_all((head(body.len()) + &body).as_bytes());
        }
        Reply::Raw(bytes) => drop(stream.write_all(bytes)),
        Reply::Endless(bytes, apart) => {
            let _ = stream.write_all(head(1 << 30).as_bytes());
            while stream.write_all(&vec![b'['; *bytes]).is_ok() {
                thread::sleep(*apart);
            }
        }
        Reply::Hang => thread::sleep(Duration::from_secs(3600)),
    }
}

/// Signs as the client would, without a process for each.
fn signed(document: &Document, by: &PrivateKey) -> Envelope {
    let namespace = Namespace::Of(document.kind());
    let signature = by.sign(namespace.as_str(), HashAlg::Sha512, document.line().as_bytes()).expect("a good key");
    let signature = record::write_armored(&signature).expect("it can be written");
    Envelope::new(document.clone(), vec![signature]).expect("a good envelope")
}

/// A beginning of the feed of `stack`, with a statement that is signed by somebody else than the server.
fn beginning(stack: &str, documents: &[Envelope], by: &PrivateKey) -> Value {
    let listed =
        documents.iter().map(|envelope| json!({ "id": envelope.document().id(), "envelope": value(envelope) }));
    let statement = json!({ "v": 1, "type": "feed", "organization": "acme", "stack": stack, "count": documents.len().max(1),
        "head": "a".repeat(64), "issued_at": format!("{:.0}", jiff::Timestamp::now()) });
    let statement = signed(&Document::parse(&statement.to_string()).expect("a good document"), by);
    json!({ "organization": "acme", "stack": stack, "after": null, "next": documents.len(),
        "documents": listed.collect::<Vec<_>>(), "statement": value(&statement) })
}

fn value(envelope: &Envelope) -> Value {
    serde_json::from_str(&envelope.to_json()).expect("JSON")
}

/// Everything that it tries.
fn tricks(company: &Company, genuine: &[Envelope], lockdown: &Envelope) -> Vec<Reply> {
    let stranger = PrivateKey::from(Ed25519Keypair::from_seed(&[66; 32]));
    let document = |body: Grant| Document::new(body).expect("a good document");
    let fresh = |reason: String| Grant {
        after: [lockdown.document().id()].into(),
        reason: reason.try_into().expect("a reason"),
        ..company.grant("ubuntu", HOUR)
    };
    let forged: Vec<_> = (0..64).map(|n| signed(&document(fresh(format!("forged {n}"))), &stranger)).collect();
    let elsewhere = Grant { stack: "db".to_owned().try_into().expect("a stack"), ..fresh("INC-1".to_owned()) };
    let elsewhere = company.signed(elsewhere, &[&company.alice]);
    let closing = |n: u64| {
        let mut lockdown = company.lockdown(None, true);
        lockdown.reason = format!("flood {n}").try_into().expect("a reason");
        signed(&Document::new(lockdown).expect("a good document"), &stranger)
    };
    let flood: Vec<_> = (0..2000).map(closing).collect();
    let swapped = Envelope::new(document(fresh("swapped".to_owned())), genuine[0].signatures().to_vec());
    vec![
        Reply::Answer(beginning("web", &forged, &stranger)),
        // For another stack; with the signatures of another; and what was true once, in any order: a roster from before too.
        Reply::Answer(beginning(
            "web",
            &[&[elsewhere.clone(), swapped.expect("an envelope")], genuine].concat(),
            &stranger,
        )),
        Reply::Answer(beginning("db", &[elsewhere], &stranger)),
        Reply::Answer(beginning("web", &[], &stranger)),
        Reply::Endless(1 << 20, Duration::ZERO),
        Reply::Answer(beginning("web", &flood, &stranger)),
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull".to_vec()),
        Reply::Raw(b"\x00\xff\r\n\r\nSSH-2.0-OpenSSH\r\n".to_vec()),
        Reply::Endless(1, Duration::from_millis(100)),
        Reply::Hang,
    ]
}

/// The most memory that a process of the instance has ever had, in KiB.
fn most_memory(host: &House, pid: &str) -> u64 {
    let line = host.sh(&format!("grep VmHWM /proc/{pid}/status"));
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_hostile_feed_gives_nobody_access_and_keeps_nothing_out() {
    let stack = Stack::boot(2);
    let company = &stack.company;
    let grant = company.signed(company.grant("ubuntu", HOUR), &[&company.alice]);
    let lockdown = company.signed(company.lockdown(None, false), &[&company.bob]);
    let (old, roster) =
        (company.signed(company.roster(1), &[&company.ceo]), company.signed(company.roster(2), &[&company.ceo]));
    let mut published = Vec::new();
    for document in [&grant, &lockdown, &roster] {
        stack.publish(document);
        stack.hosts.iter().for_each(|host| Stack::accepts(host, document));
        published.push(document.document().id().to_string());
    }
    let mut asked = Vec::new();
    for (number, host) in stack.hosts.iter().enumerate() {
        asked.push(serve(host, tricks(company, &[grant.clone(), old.clone(), lockdown.clone()], &lockdown)));
        let feeds = format!("feeds = [\"http://{ADDRESS}\", \"{}\"]", stack.url());
        host.configure(&stack.config(number, &company.table(&feeds)));
    }

    step("meanwhile the other feed is heard as ever");
    let mut known = BTreeSet::from([lockdown.document().id()]);
    for round in 0..6 {
        let body =
            Grant { after: known.clone(), roster: 2.try_into().expect("a version"), ..company.grant("ubuntu", HOUR) };
        let (grant, begun) = (company.signed(body, &[&company.alice]), Instant::now());
        stack.publish(&grant);
        let mut sessions = Vec::new();
        for host in &stack.hosts {
            Stack::accepts(host, &grant);
            assert!(begun.elapsed() < PROMPT, "round {round}: {:?}", begun.elapsed());
            sessions.push(host.ssh("ubuntu").key(&company.frank).stay());
        }
        let mut body = company.lockdown(None, false);
        body.reason = format!("round {round}").try_into().expect("a reason");
        let (lockdown, begun) = (company.signed(body, &[&company.bob]), Instant::now());
        stack.publish(&lockdown);
        for session in &mut sessions {
            session.ended_within(PROMPT);
        }
        println!("round {round}: all cut off after {:?}", begun.elapsed());
        known.insert(lockdown.document().id());
        published.extend([&grant, &lockdown].map(|envelope| envelope.document().id().to_string()));
        thread::sleep(Duration::from_secs(6));
    }
    assert!(asked.iter().all(|asked| (9..200).contains(&asked.load(Ordering::Relaxed))), "{asked:?}");

    step("nothing of the hostile one has opened or closed anything, and it is on record");
    for host in &stack.hosts {
        let accepted = host.records_of("document.accepted");
        let (rosters, others): (Vec<_>, Vec<_>) =
            accepted.iter().partition(|record| record["detail"]["kind"] == "roster");
        assert_eq!(rosters.len(), 2, "{rosters:?}");
        assert!(others.iter().all(|record| published.contains(&document_of(record))), "{others:?}");
        assert!(host.records_of("grant.created").iter().all(|record| published.contains(&document_of(record))));
        assert!(!host.ssh("ubuntu").key(&company.frank).login());
        eventually("the feed's problem is on record", ON_RECORD, || {
            host.records_of("journal.gap").iter().any(|record| record["detail"]["feed"] == format!("http://{ADDRESS}"))
        });
        let refused = host.records_of("document.refused");
        for code in ["stack", "rollback"] {
            assert!(refused.iter().any(|record| record["detail"]["code"] == code), "{code}: {refused:?}");
        }
        step("and neither memory nor shipping suffers");
        for (unit, pid) in
            [("lockdownd", DAEMON), ("lockdownd-shipper", "$(systemctl show -P MainPID lockdownd-shipper)")]
        {
            let memory = most_memory(host, pid);
            println!("{unit}: {memory} KiB at most");
            assert!(memory < MAX_MEMORY, "{unit}: {memory} KiB");
            assert_eq!(host.sh(&format!("systemctl show -P NRestarts {unit}")), "0", "{unit}");
        }
        let files = host.sh("ls /var/lib/lockdownd-shipper/inbox | wc -l").parse::<u32>().expect("a number");
        assert!(files <= 260, "{files}");
        eventually("all records are acknowledged", SOON, || {
            let status = host.ctl_json("status");
            status["shipping"].as_array().is_some_and(|sinks| sinks.iter().all(|sink| sink["waiting"] == 0))
        });
        host.ctl("verify").expect_ok();
    }
}

fn document_of(record: &Value) -> String {
    record["detail"]["document"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn grants_end_when_the_feed_falls_silent_where_that_is_asked_for() {
    let mut stack = Stack::boot(2);
    let table =
        |more: &str| stack.company.table(&format!("feeds = [\"{}\"]\nmax_silence = \"1m\"\n{more}", stack.url()));
    stack.hosts[0].configure(&stack.config(0, &table("when_silent = \"end\"")));
    stack.hosts[1].configure(&stack.config(1, &table("")));
    let grant = stack.company.signed(stack.company.grant("ubuntu", HOUR), &[&stack.company.alice]);
    stack.publish(&grant);
    let mut sessions: Vec<_> = stack
        .hosts
        .iter()
        .map(|host| {
            Stack::accepts(host, &grant);
            host.ssh("ubuntu").key(&stack.company.frank).stay()
        })
        .collect();
    stack.stop_server();
    let silent = sessions[0].ended_within(Duration::from_secs(180));
    println!("ended {silent:?} after the server");
    assert!(silent > Duration::from_secs(5), "{silent:?}");
    assert!(!stack.hosts[0].ssh("ubuntu").key(&stack.company.frank).login());
    assert!(sessions[1].is_alive() && stack.hosts[1].ssh("ubuntu").key(&stack.company.frank).login());

    step("heard again, it opens again");
    stack.start_server();
    let allowed = stack
        .lockdown(&stack.company.alice, "allow frank --stack web --account ubuntu --for 1h --reason back --wait 60s");
    assert_eq!(allowed.status, 0, "{allowed}");
    assert!(stack.hosts.iter().all(|host| host.ssh("ubuntu").key(&stack.company.frank).login()));
}
