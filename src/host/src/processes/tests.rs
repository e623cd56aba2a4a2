//! What is read of processes, on processes of our own.

use super::*;
use std::process::Command;

#[test]
fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
    let text = b"42 (a) R 7 (x) S 17 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3\n";
    let stat = parse_stat(text).expect("a stat line");
    assert_eq!((stat.comm.as_str(), stat.state, stat.ppid, stat.start_time), ("a) R 7 (x", b'S', 17, 98765));
    assert_eq!(stat.threads, 1);
    assert!(parse_stat(b"42 (sh").is_none());
    assert!(parse_stat(b"").is_none());
}

#[test]
fn the_control_group_is_found_in_each_kind_of_hierarchy() {
    let unified = cgroup_of(b"0::/user.slice/session-3.scope\n").expect("a cgroup");
    assert_eq!(unified, CgroupPath { unified: true, path: "/user.slice/session-3.scope".into() });
    let hybrid = cgroup_of(b"5:cpu:/\n1:name=systemd:/\n0::/x/session-3.scope\n").expect("a cgroup");
    assert_eq!(hybrid, CgroupPath { unified: true, path: "/x/session-3.scope".into() });
    let legacy = cgroup_of(b"5:cpu,cpuacct:/\n1:name=systemd:/a:b/session-3.scope\n0::/\n").expect("a cgroup");
    assert_eq!(legacy, CgroupPath { unified: false, path: "/a:b/session-3.scope".into() });
    assert_eq!(cgroup_of(b""), None);
}

#[test]
fn a_process_is_read_and_its_end_is_awaited() {
    let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
    let pid = i32::try_from(child.id()).expect("a pid");
    let process = Process::read(pid).expect("the child");
    assert_eq!(process.ppid, i32::try_from(std::process::id()).expect("a pid"));
    assert!(process.id.is_alive());
    assert!(descendants(process.ppid).expect("a tree").contains(&process.id));
    assert!(!descendants(pid).expect("a tree").contains(&process.id));
    assert_eq!(ancestors(pid).first().map(|id| id.pid), Some(process.ppid));
    assert_eq!(ancestors(pid).last().map(|id| id.pid), Some(1));

    let handle = process.id.open().expect("a pidfd").expect("alive");
    assert!(handle.signal(Signal::KILL).expect("a signal"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    assert_eq!(runtime.block_on(handle.exited()).expect("an end"), process.id);
    assert!(!process.id.is_alive(), "a zombie is not alive");
    child.wait().expect("reaped");
    assert!(process.id.open().expect("no error").is_none());
}

#[test]
fn a_reused_pid_is_not_taken_for_the_process_that_had_it() {
    let own = identity(i32::try_from(std::process::id()).expect("a pid")).expect("myself");
    let former = ProcessId { start_time: own.start_time - 1, ..own };
    assert!(former.open().expect("no error").is_none());
    assert!(!former.is_alive());
    assert!(own.open().expect("no error").is_some());
    assert!(ProcessId { pid: 0, start_time: 0 }.open().expect("no error").is_none());
}

/// Listens, writes where, and ends its first thread while the second waits.
const HEADLESS: &str = r#"
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static void *stay(void *nothing) { sleep(60); return nothing; }
int main(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    pthread_t other;
    if (bind(listener, (void *)&at, size) || listen(listener, 1) || getsockname(listener, (void *)&at, &size)) return 1;
    if (pthread_create(&other, NULL, stay, NULL)) return 1;
    printf("127.0.0.1:%d\n", ntohs(at.sin_port));
    fflush(stdout);
    syscall(SYS_exit, 0);
}
"#;

#[test]
fn a_process_whose_first_thread_has_ended_is_alive_and_shows_what_it_holds() {
    let dir = tempfile::tempdir().expect("a directory");
    let (source, program) = (dir.path().join("headless.c"), dir.path().join("headless"));
    std::fs::write(&source, HEADLESS).expect("written");
    let built = Command::new("cc").args(["-pthread", "-o"]).args([&program, &source]).status();
    assert!(built.expect("cc, which cargo links with").success());
    let mut child = Command::new(&program).stdout(std::process::Stdio::piped()).spawn().expect("it runs");
    let mut at = String::new();
    let mut told = std::io::BufReader::new(child.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut told, &mut at).expect("where it listens");
    let pid = i32::try_from(child.id()).expect("a pid");
    let is_headless = || ProcDir::open(pid).and_then(|dir| dir.stat()).is_some_and(|stat| stat.has_ended());
    while !is_headless() {
        std::thread::yield_now();
    }
    let process = Process::read(pid).expect("a process");
    assert!(process.id.is_alive() && snapshot().expect("processes").contains_key(&pid));
    assert_eq!(process.exe.as_deref(), Some(program.as_path()));
    assert_eq!(crate::listening::addresses(pid), [at.trim_end()]);
    assert!(ProcDir::open_living(pid).is_some_and(|dir| dir.program().is_some()));

    child.kill().expect("killed");
    while process.id.is_alive() {
        std::thread::yield_now();
    }
    assert!(ProcDir::open(pid).is_some_and(|dir| dir.stat().is_some_and(|stat| stat.is_dead())), "not reaped yet");
    child.wait().expect("reaped");
}
