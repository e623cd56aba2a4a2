//! That no flood keeps a login, an operator or a deadline waiting: with real queues, a real timer and a real socket.

use std::time::Instant;

use super::*;

fn login() -> Reason {
    let question = gate::Question {
        step: gate::Step::Account,
        account: "ubuntu".to_owned(),
        remote_host: None,
        connection: None,
        auth_info: None,
        service: None,
        tty: None,
    };
    Reason::Login { question, gate: 1, answer: oneshot::channel().0 }
}

fn class_of(reason: &Reason) -> Class {
    match reason {
        Reason::Deadline | Reason::ClockSet => Class::Deadline,
        Reason::Login { .. } => Class::Login,
        Reason::Reload => Class::Operator,
        Reason::Touched(_) => Class::Touched,
        Reason::Tick => Class::Own,
        Reason::Log(_) => Class::Log,
        Reason::Found(_) => Class::Homes,
        other => panic!("nobody sent {other:?}"),
    }
}

/// Fills every queue up.
fn fill(senders: &Senders, logins: bool) {
    while senders.operators.try_send(Reason::Reload).is_ok() {}
    while senders.touched.try_send(Reason::Touched(Place::Store)).is_ok() {}
    while senders.own.try_send(Reason::Tick).is_ok() {}
    while senders.log.try_send(LogReport::UsersSshd).is_ok() {}
    while senders.homes.try_send(Finding::Overflow { times: 1 }).is_ok() {}
    while logins && senders.logins.try_send(login()).is_ok() {}
}

#[tokio::test]
async fn with_every_queue_full_and_a_deadline_always_due_each_waits_for_one_of_each_other_at_most() {
    let (senders, mut triggers) = Triggers::new(DeadlineTimer::new().expect("timers"));
    let awaited = [Class::Deadline, Class::Login, Class::Operator];
    let mut before: Vec<(Class, Vec<Class>)> = awaited.map(|class| (class, Vec::new())).to_vec();
    for _ in 0..500 {
        fill(&senders, true);
        let class = class_of(&triggers.next(None, Some(Duration::ZERO)).await);
        for (waiting, others) in &mut before {
            if *waiting == class {
                others.clear();
            } else {
                assert!(!others.contains(&class), "{waiting:?} waits for {others:?} and {class:?}");
                others.push(class);
            }
        }
    }
}

#[tokio::test]
async fn a_deadline_that_falls_due_in_a_flood_of_everything_waits_for_one_of_each_at_most() {
    let (senders, mut triggers) = Triggers::new(DeadlineTimer::new().expect("timers"));
    let at = lockdown_host::clock::now().boot + Duration::from_millis(50);
    let mut others = Vec::new();
    loop {
        fill(&senders, true);
        let is_due = lockdown_host::clock::now().boot >= at;
        match class_of(&triggers.next(None, Some(at)).await) {
            Class::Deadline => break,
            class if is_due => others.push(class),
            _ => {}
        }
    }
    let mut once = others.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), others.len(), "some came twice before it: {others:?}");
}

#[tokio::test]
async fn who_asks_on_a_socket_while_a_reason_is_acted_on_is_next_whatever_floods_the_queues() {
    let dir = tempfile::tempdir().expect("a directory");
    let (senders, mut triggers) = Triggers::new(DeadlineTimer::new().expect("timers"));
    let path = dir.path().join("gate.sock");
    let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
    sockets::serve_gate(listener, senders.logins.clone());
    for _ in 0..20 {
        // Acting on one reason: whoever comes meanwhile comes while nothing else runs.
        while senders.own.try_send(Reason::Tick).is_ok() {}
        while senders.log.try_send(LogReport::UsersSshd).is_ok() {}
        while senders.homes.try_send(Finding::Overflow { times: 1 }).is_ok() {}
        assert_ne!(class_of(&triggers.next(None, None).await), Class::Login);
        let mut client = std::os::unix::net::UnixStream::connect(&path).expect("a connection");
        let Reason::Login { question, .. } = login() else { unreachable!("it is one") };
        let frame = control::frame::encode(&question, gate::MAX_FRAME).expect("a frame");
        std::io::Write::write_all(&mut client, &frame).expect("it is taken");
        let Reason::Login { answer, .. } = triggers.next(None, None).await else { panic!("something else came first") };
        answer.send(gate::Answer::allow()).expect("somebody waits");
    }
}

#[tokio::test]
async fn a_flood_leaves_timers_and_tasks_their_time() {
    let (senders, mut triggers) = Triggers::new(DeadlineTimer::new().expect("timers"));
    let (beat, mut beats) = mpsc::channel(1_024);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while beat.send(ticks.tick().await).await.is_ok() {}
    });
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        fill(&senders, true);
        let _ = triggers.next(None, Some(Duration::ZERO)).await;
        // An act that takes its time.
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut count = 0;
    while beats.try_recv().is_ok() {
        count += 1;
    }
    assert!(count >= 20, "the watchdog's task ran {count} times in half a second");
}

#[tokio::test]
async fn homes_threads_that_have_ended_are_a_reason_to_look() {
    let (senders, mut triggers) = Triggers::new(DeadlineTimer::new().expect("timers"));
    drop(senders.homes);
    assert!(matches!(triggers.next(None, None).await, Reason::Tick));
}
