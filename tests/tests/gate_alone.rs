//! The login gate and its PAM lines on real instances, with no daemon: nobody listens, or the test answers in its stead.
//!
//! sshd is left as Debian ships it, so keys in homes are live and only the gate stands in the way. The gate comes from where
//! `packaging/build` leaves it.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use instance_tests::{Client, Instance, Key, Release, eventually, on_each_release};
use serde_json::{Value, json};

/// A refused connection is gone within a second of the refusal; the rest is what a busy test machine adds.
const GONE: Duration = Duration::from_millis(1500);
/// What a client that is not let in may take in all.
const ENDED: Duration = Duration::from_secs(20);
const GATE: &str = "/usr/lib/lockdownd/login-gate";
const SOCKET: &str = "/run/lockdownd/gate.sock";

/// An instance with the gate in its PAM stack, enforce on, and `frank`, `breakglass` (exempt) and `robot` (no shell),
/// whose homes hold the key.
fn gated(release: Release) -> (Instance, Key) {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let instance = Instance::boot_bare(release);
    instance.copy_in(&tree.join("target/packaging/login-gate"), GATE);
    instance.copy_in(&tree.join("packaging/pam-config"), "/usr/share/pam-configs/lockdownd");
    instance.sh("chmod 755 /usr/lib/lockdownd/login-gate; pam-auth-update --package; \
                 mkdir -p -m 700 /var/lib/lockdownd /run/lockdownd; umask 077; \
                 echo breakglass >/var/lib/lockdownd/exempt; touch /var/lib/lockdownd/enforcing");
    let key = instance.keygen("frank");
    for account in ["frank", "breakglass", "robot"] {
        instance.useradd(account);
        instance.authorize(account, &key);
    }
    instance.sh("usermod -s /usr/sbin/nologin robot; echo frank:s3cret | chpasswd; echo root:s3cret | chpasswd");
    instance.authorize("root", &key);
    (instance, key)
}

/// Answers the gate in the daemon's stead, and keeps what it asked.
#[derive(Clone)]
struct Answers(Arc<Mutex<Vec<(Instant, Value)>>>);

impl Answers {
    /// Listens in `instance` from now on; `answer` gives the text of a refusal, or none to allow.
    fn start(instance: &Instance, answer: impl Fn(&Value) -> Option<&'static str> + Send + 'static) -> Self {
        let listener = listen(instance);
        let answers = Self(Arc::default());
        let asked = answers.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let question: Value = serde_json::from_slice(&read_frame(&mut stream)).expect("a question");
                let reply = match answer(&question) {
                    Some(text) => json!({"answer": "refuse", "text": text}),
                    None => json!({"answer": "allow"}),
                };
                asked.0.lock().unwrap().push((Instant::now(), question));
                let reply = reply.to_string();
                let length = u32::try_from(reply.len()).expect("short").to_be_bytes();
                stream.write_all(&[&length, reply.as_bytes()].concat()).expect("the gate waits for this");
            }
        });
        answers
    }

    /// Every question so far, and since when it is answered.
    fn asked(&self) -> Vec<(Instant, Value)> {
        self.0.lock().unwrap().clone()
    }

    /// How long ago the last question was answered.
    fn since_last(&self) -> Duration {
        self.asked().last().expect("a question").0.elapsed()
    }
}

fn listen(instance: &Instance) -> UnixListener {
    let socket = format!("/proc/{}/root{SOCKET}", instance.leader());
    let _ = fs::remove_file(&socket);
    UnixListener::bind(&socket).unwrap_or_else(|e| panic!("{socket}: {e}"))
}

fn read_frame(stream: &mut UnixStream) -> Vec<u8> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).expect("a header");
    let mut body = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut body).expect("a body");
    body
}

/// Lets everybody pass the account step and nobody open a session.
fn no_session(question: &Value) -> Option<&'static str> {
    (question["step"] == "session").then_some("No grant for this key.\nAsk the stack's operators.")
}

/// Whether no connection has an sshd.
fn nobody_is_connected(instance: &Instance) -> bool {
    instance.sh("pgrep -af '^sshd(-session|-auth)?: ' | grep -vF '[listener]' || true").is_empty()
}

fn nobody_gets_in_but_the_exempt(instance: &Instance, key: &Key) {
    for account in ["frank", "root", "robot"] {
        let forward = instance.ssh(account).key(key).arg("-N").arg("-L").arg("127.0.0.1:7001:127.0.0.1:22");
        forward.spawn("").ended_within(ENDED);
        assert!(!instance.ssh(account).key(key).login(), "{account} got in");
    }
    assert!(!instance.ssh("frank").password("s3cret").login(), "a password got in");
    assert!(!instance.ssh("root").password("s3cret").login(), "root's password got in");
    assert_eq!(instance.ssh("breakglass").key(key).run("id -un").expect_ok(), "breakglass");
    eventually("no connection is left", ENDED, || nobody_is_connected(instance));
}

/// Has cron do something of frank's at the next full minute.
fn ask_cron(instance: &Instance) {
    instance.sh("echo '* * * * * frank touch /tmp/cron-ran' >/etc/cron.d/proof; chmod 644 /etc/cron.d/proof");
}

/// `su`, `sudo` and what [`ask_cron`] asked for, none of which is an SSH login.
fn other_ways_of_pam_work(instance: &Instance) {
    assert_eq!(instance.sh("su - frank -c 'id -un'"), "frank");
    assert_eq!(instance.sh("SSH_CONNECTION='1 2 3 4' SSH_AUTH_INFO_0= su frank -c 'id -un'"), "frank");
    assert_eq!(instance.sh("sudo -u frank id -un"), "frank");
    eventually("cron has run", Duration::from_secs(130), || instance.exists("/tmp/cron-ran"));
}

on_each_release! {
    fn with_nobody_answering_only_the_exempt_get_in_and_leave_a_note(release) {
        let (instance, key) = gated(release);
        ask_cron(&instance);
        let outsider = instance.keygen("outsider");
        let ca = instance.keygen("ca");
        let signed = instance.scratch().join("signed");
        fs::copy(outsider.path(), &signed).unwrap();
        fs::write(signed.with_extension("pub"), outsider.public()).unwrap();
        let sign = std::process::Command::new("ssh-keygen").args(["-q", "-I", "outsider", "-n", "frank", "-s"])
            .arg(ca.path()).arg(signed.with_extension("pub")).status().unwrap();
        assert!(sign.success());
        let commanded = instance.keygen("commanded");
        instance.write("/etc/ssh/ca.pub", ca.public());
        instance.write("/usr/local/bin/keys", format!("#!/bin/sh\necho '{}'\n", commanded.public()));
        instance.write("/etc/ssh/sshd_config.d/50-ways.conf", "TrustedUserCAKeys /etc/ssh/ca.pub\n\
            AuthorizedKeysCommand /usr/local/bin/keys\nAuthorizedKeysCommandUser nobody\nPermitRootLogin yes\n");
        instance.sh("chmod 755 /usr/local/bin/keys; sshd -t; systemctl restart ssh");
        let by_certificate = instance.ssh("frank").arg("-i").arg(signed.to_str().unwrap());
        let by_command = instance.ssh("frank").key(&commanded);

        nobody_gets_in_but_the_exempt(&instance, &key);
        assert!(!by_certificate.login() && !by_command.login());
        let told = instance.ssh("frank").key(&key).run("id");
        assert!(told.stderr.contains("lockdownd") && told.stderr.contains("does not answer"), "{told}");
        other_ways_of_pam_work(&instance);
        let notes = instance.sh("cat /var/lib/lockdownd/emergency/*.json");
        let note: Value = serde_json::from_str(&notes).expect("one login, one note");
        assert_eq!((&note["question"]["account"], &note["question"]["step"]), (&json!("breakglass"), &json!("session")));
        assert!(note["question"]["auth_info"].as_str().unwrap().contains(key.public().split(' ').nth(1).unwrap()));
        assert_eq!(instance.sh("stat -c %a:%u /var/lib/lockdownd/emergency /var/lib/lockdownd/emergency/*"), "700:0\n600:0");

        instance.sh(&format!("mv {GATE} /root/gate"));
        nobody_gets_in_but_the_exempt(&instance, &key);
        assert!(!by_certificate.login() && !by_command.login());
        instance.sh(&format!("mv /root/gate {GATE}"));

        // In observe everybody passes, by every way that was closed above: it was the gate that closed it.
        instance.sh("rm /var/lib/lockdownd/enforcing");
        assert!(by_certificate.login() && by_command.login());
        for account in ["frank", "root", "breakglass"] {
            assert!(instance.ssh(account).key(&key).login(), "{account} did not get in");
        }
        assert!(instance.ssh("frank").password("s3cret").login() && instance.ssh("root").password("s3cret").login());
        let robot = instance.ssh("robot").key(&key).arg("-N").arg("-L").arg("127.0.0.1:7001:127.0.0.1:22").spawn("");
        eventually("robot forwards a port", ENDED, || instance.run("ss -Hltn sport = 7001 | grep -q .").ok());
        drop(robot);
    }

    fn a_refused_session_leaves_no_connection_and_carries_nothing(release) {
        let (instance, key) = gated(release);
instance.sh("systemd-run -q socat TCP-LISTEN:7100,fork,bind=127.0.0.1 EXEC:'echo secret' && \
                     systemd-run -q socat UNIX-LISTEN:/tmp/service,fork,mode=666 EXEC:'echo secret'");
        let open = Arc::new(Mutex::new(true));
        let gate = open.clone();
        let answers = Answers::start(&instance, move |question| {
            if *gate.lock().unwrap() { None } else { no_session(question) }
        });
        let mut other = instance.ssh("frank").key(&key).stay();
        *open.lock().unwrap() = false;

        for account in ["frank", "root", "robot"] {
            let login = || instance.ssh(account).key(&key);
            let socket = instance.scratch().join(format!("master-{account}"));
            let master = format!("ControlPath={}", socket.display());
            let mut clients: Vec<(&str, Client)> = vec![
                ("a command", login().spawn("id; touch /tmp/ran")),
                ("an idle shell", login().arg("-tt").spawn("")),
                ("nothing at all", login().arg("-N").spawn("")),
                ("a local forward", login().arg("-N").arg("-L").arg("127.0.0.1:7001:127.0.0.1:7100").spawn("")),
                ("a remote forward", login().arg("-N").arg("-R").arg("127.0.0.1:7002:127.0.0.1:7100").spawn("")),
                ("a proxy", login().arg("-N").arg("-D").arg("127.0.0.1:7003").spawn("")),
                ("a stream", login().arg("-W").arg("127.0.0.1:7100").spawn("")),
                ("a stream to a socket", login().arg("-W").arg("/tmp/service").spawn("")),
                ("a master", login().arg("-MN").option(&master).spawn("")),
                ("sftp", login().arg("-s").spawn("sftp")),
            ];
            for (what, client) in &mut clients {
                client.ended_within(ENDED);
                let said = client.output();
                assert!(said.status != 0 && !said.stdout.contains("secret") && !said.stdout.contains("uid="), "{what}: {said}");
            }
            assert!(answers.since_last() < GONE * 2, "{:?} after the last refusal", answers.since_last());
            let told = login().run("id");
            assert!(told.stdout.contains("No grant for this key.\nAsk the stack's operators."), "{told}");
        }
        // One by one, with the clock on the refusal.
        for flags in [&["-N"][..], &["-N", "-L", "127.0.0.1:7001:127.0.0.1:7100"], &["-tt"]] {
            let login = flags.iter().fold(instance.ssh("frank").key(&key), |ssh, flag| ssh.arg(flag));
            login.spawn("").ended_within(ENDED);
            assert!(answers.since_last() < GONE, "{flags:?}: {:?} after the refusal", answers.since_last());
        }
        assert!(!instance.exists("/tmp/ran"));
        assert!(other.is_alive(), "another connection of the account was ended: {}", other.output());
        *open.lock().unwrap() = true;
        assert!(instance.ssh("frank").key(&key).login());
        eventually("no gate is left", ENDED, || !instance.run("pgrep -x login-gate").ok());
    }

    fn many_refused_at_once_are_all_gone_and_the_exempt_still_get_in(release) {
        let (instance, key) = gated(release);
        instance.write("/etc/ssh/sshd_config.d/50-many.conf", "MaxStartups 200\n");
        instance.sh("systemctl restart ssh");
        let answers = Answers::start(&instance, |question| {
            (question["account"] != "breakglass").then(|| no_session(question)).flatten()
        });
        let mut clients: Vec<Client> = (0..40).map(|_| instance.ssh("frank").key(&key).arg("-N").spawn("")).collect();
        for client in &mut clients {
            client.ended_within(Duration::from_secs(60));
        }
        assert!(answers.since_last() < GONE, "{:?} after the last refusal", answers.since_last());
        assert!(instance.ssh("breakglass").key(&key).login());
        eventually("no connection is left", ENDED, || nobody_is_connected(&instance));
        eventually("no gate is left", ENDED, || !instance.run("pgrep -x login-gate").ok());
    }

    fn a_daemon_that_hangs_lets_nobody_in_and_costs_ten_seconds(release) {
        let (instance, key) = gated(release);
        let silent = listen(&instance);
        let began = Instant::now();
        let refused = instance.ssh("frank").key(&key).run("id");
        assert!(!refused.ok() && refused.stderr.contains("does not answer"), "{refused}");
        let took = began.elapsed();
        assert!((10..14).contains(&took.as_secs()), "{took:?}");
        assert!(instance.ssh("breakglass").key(&key).login());
        drop(silent);
    }

    fn nothing_that_a_user_writes_reaches_the_gate_or_runs_on_a_refused_login(release) {
        let (instance, key) = gated(release);
        instance.write("/etc/ssh/sshd_config.d/50-open.conf", "PermitUserEnvironment yes\nAcceptEnv *\n");
        instance.sh("systemctl restart ssh");
        // Tells what environment the gate is run with, then runs it.
        instance.sh(&format!("mv {GATE} {GATE}.real; printf '%s\\n' '#!/bin/sh' '{{ env; echo; }} >>/root/gate.log' \
                              'exec {GATE}.real' >{GATE}; chmod 755 {GATE}"));
        let poison = "LD_PRELOAD=/tmp/evil.so\\nPAM_USER=breakglass\\nPAM_TYPE=close_session\\nSSH_AUTH_INFO_0=poison\\nPOISON=1\\n";
        instance.run_as("frank", &format!(
            "printf '{poison}' >.pam_environment; printf '{poison}' >.ssh/environment; echo 'touch ~/rc-ran' >.ssh/rc
             echo 'touch ~/profile-ran' | tee .bashrc >.profile
             mkdir -p .config/systemd/user/default.target.wants
             printf '[Service]\\nExecStart=/usr/bin/touch /home/frank/unit-ran\\n' >.config/systemd/user/trap.service
             ln -s ../trap.service .config/systemd/user/default.target.wants/"
        )).expect_ok();
        let login = || instance.ssh("frank").key(&key).option("SetEnv=PAM_USER=breakglass PAM_TYPE=close_session POISON=1");
        let open = Arc::new(Mutex::new(false));
        let gate = open.clone();
        let answers = Answers::start(&instance, move |question| {
            if *gate.lock().unwrap() { None } else { no_session(question) }
        });

        assert!(!login().login());
        login().arg("-N").spawn("").ended_within(ENDED);
        thread::sleep(GONE);
        let traps = "ls /home/frank | grep -- -ran || true";
        assert_eq!(instance.sh(traps), "");
        *open.lock().unwrap() = true;
        let _ = login().run("exit");
        eventually("the traps snap on a login that is let in", ENDED, || instance.sh(traps).lines().count() >= 2);
        eventually("no connection is left", ENDED, || nobody_is_connected(&instance));

        let environments = instance.sh("cat /root/gate.log");
        assert!(!environments.contains("POISON") && !environments.contains("evil"), "{environments}");
        assert!(!environments.contains("close_session") && !environments.contains("breakglass"), "{environments}");
        assert!(answers.asked().iter().all(|(_, question)| question["account"] == "frank"));
    }

    fn a_user_file_that_an_administrator_lets_into_pam_early_makes_the_login_doubtful(release) {
        let (instance, key) = gated(release);
        instance.sh("sed -i '1i session required pam_env.so user_readenv=1' /etc/pam.d/sshd");
        let answers = Answers::start(&instance, |_| None);
        assert!(instance.ssh("frank").key(&key).login());
        for twice in ["PAM_TYPE=account", "PAM_USER=breakglass", "PAM_TYPE=open_session"] {
            instance.run_as("frank", &format!("echo {twice} >.pam_environment")).expect_ok();
            let refused = instance.ssh("frank").key(&key).run("id");
            assert!(!refused.ok() && refused.stdout.contains("This login is refused: PAM_"), "{twice}: {refused}");
            instance.ssh("frank").key(&key).arg("-N").spawn("").ended_within(ENDED);
        }
        assert!(answers.asked().iter().all(|(_, question)| question["account"] == "frank"));
        assert!(instance.ssh("breakglass").key(&key).login());
    }
}
