//! A stack: instances of each release on one network of their own, and a real `compliance-api` over TLS beside them.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use document::{Envelope, Roster};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::Value;

use crate::client::Key;
use crate::company::Company;
use crate::device::Device;
use crate::host::{Output, eventually, finish, finish_within};
use crate::house::House;
use crate::layers::Release;
use crate::net::{HERE, Net};
use crate::server::built;

/// Where instances find the authority that signed the server's certificate.
const CA: &str = "/etc/lockdownd/ca.crt";
/// What the server may take to answer after it was started, and a document to be in force, on a busy machine.
const SOON: Duration = Duration::from_secs(40);
/// What one command of the client may take.
const CLIENT_LIMIT: Duration = Duration::from_secs(90);

/// The instances `web1`, `web2`, …, their server, and the people who use them.
#[derive(Debug)]
pub struct Stack {
    server: Option<Child>,
    /// The people.
    pub company: Company,
    dir: PathBuf,
    net: Net,
    /// The instances, Debian 12 and 13 in turn.
    pub hosts: Vec<House>,
}

impl Stack {
    /// Boots so many, in enforce. Each has heard of the first roster, and nobody has a grant.
    ///
    /// # Panics
    /// When one does not come up, or does not take the roster.
    #[must_use]
    #[track_caller]
    pub fn boot(count: usize) -> Self {
        let stack = Self::boot_without_roster(count);
        stack.begin(stack.company.roster(1));
        stack
    }

    /// Has every host take up the first roster.
    ///
    /// # Panics
    /// When one does not.
    #[track_caller]
    pub fn begin(&self, roster: Roster) {
        let roster = self.company.signed(roster, &[&self.company.ceo]);
        self.publish(&roster);
        for host in &self.hosts {
            Self::accepts(host, &roster);
            Self::age(host);
        }
    }

    /// Has a host know of documents since an hour: one that has just joined takes no grant that was signed in its first two
    /// minutes, since it does not know what was revoked before.
    ///
    /// # Panics
    /// When it knows of none.
    pub fn age(host: &House) {
        let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
        host.sh(&format!(
            "cd /var/lib/lockdownd && systemctl stop lockdownd && grep -q '\"began\":.*\"closed_before\":' documents.json && \
             sed -i 's/\"\\(began\\|closed_before\\)\":\"[^\"]*\"/\"\\1\":\"{then:.0}\"/g' documents.json && \
             rm -f /run/lockdownd/documents.json && systemctl start lockdownd"
        ));
        host.await_mode("enforce");
    }

    /// The same before anybody has published anything.
    ///
    /// # Panics
    /// When one does not come up.
    #[must_use]
    #[track_caller]
    pub fn boot_without_roster(count: usize) -> Self {
        let boot = |number: usize| {
            let release = Release::ALL[number % 2];
            House::enforcing_with(release, &format!("[host]\nname = \"web{}\"\nstack = \"web\"\n", number + 1))
        };
        let hosts: Vec<House> = thread::scope(|scope| {
            let booting: Vec<_> = (0..count).map(|number| scope.spawn(move || boot(number))).collect();
            booting.into_iter().map(|one| one.join().expect("it boots")).collect()
        });
        let dir = hosts[0].scratch().join("stack");
        fs::create_dir_all(&dir).expect("own directory");
        let net = Net::lay(&hosts[0]);
        let company = Company::found(&dir);
        let mut stack = Self { server: None, company, dir, net, hosts };
        stack.write_server();
        stack.start_server();
        for number in 0..count {
            stack.net.plug(&stack.hosts[number], number);
            stack.join(number);
        }
        stack
    }

    /// The server's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{HERE}:8448")
    }

    /// What a host of it is configured by; `stack` is its table `[stack]`, or nothing.
    #[must_use]
    pub fn config(&self, number: usize, stack: &str) -> String {
        let key = self.server_key();
        format!(
            "mode = \"enforce\"\n[accounts]\nexempt = [\"breakglass\"]\n[host]\nname = \"web{}\"\nstack = \"web\"\n\
             [ship.api]\nurl = \"{}\"\nca_file = \"{CA}\"\nreceipt_keys = [\"{key}\"]\n{stack}",
            number + 1,
            self.url()
        )
    }

    /// The table `[stack]` of a host that listens to the server.
    #[must_use]
    pub fn table(&self) -> String {
        self.company.table(&format!("feeds = [\"{}\"]", self.url()))
    }

    fn join(&self, number: usize) {
        let host = &self.hosts[number];
        host.copy_in(&self.dir.join("ca"), CA);
        let token = self.token("--role enrol --stack web --uses 10");
        host.write("/etc/lockdownd/credentials/enrolment-token", &token);
        host.configure(&self.config(number, &self.table()));
        host.sh("systemctl restart lockdownd-shipper");
    }

    /// Reboots an instance, and plugs it in again.
    pub fn reboot(&mut self, number: usize) {
        self.hosts[number].reboot();
        self.net.plug(&self.hosts[number], number);
        self.hosts[number].await_mode("enforce");
    }

    /// Cuts an instance's power, and plugs it in again.
    pub fn power_cut(&mut self, number: usize) {
        self.hosts[number].power_cut();
        self.net.plug(&self.hosts[number], number);
        self.hosts[number].await_mode("enforce");
    }

    /// Pulls an instance's plug, or puts it back.
    pub fn connect(&self, number: usize, connected: bool) {
        self.net.connect(number, connected);
    }

    /// Posts a document to the server from an instance, and gives what it answers.
    #[must_use]
    pub fn post(&self, envelope: &Envelope) -> Output {
        let (host, file) = (&self.hosts[0], format!("/root/{}.json", envelope.document().id()));
        host.write(&file, envelope.to_json());
        host.run(&format!(
            "curl -sS --fail-with-body --cacert {CA} -H 'Content-Type: application/json' --data-binary @{file} {}/v1/documents",
            self.url()
        ))
    }

    /// Posts one that has to be published.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn publish(&self, envelope: &Envelope) {
        let answer = self.post(envelope).expect_ok();
        let said: Value = serde_json::from_str(&answer).unwrap_or_else(|e| panic!("not JSON ({e}): {answer}"));
        assert_eq!(said["state"], "published", "{said}");
    }

    /// Waits until a host has accepted a document, on record.
    #[track_caller]
    pub fn accepts(host: &House, envelope: &Envelope) {
        let id = envelope.document().id().to_string();
        let accepted = || host.records_of("document.accepted").iter().any(|record| record["detail"]["document"] == id);
        let start = std::time::Instant::now();
        while !accepted() {
            if start.elapsed() > SOON {
                let (refused, status) = (host.records_of("document.refused"), host.ctl("status"));
                panic!("{id} is not accepted: {refused:?}\n{status}\n{}", host.journal("-u lockdownd-shipper -n 30"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs `lockdown ARGS` on somebody's laptop, with this key.
    #[must_use]
    pub fn lockdown(&self, key: &Key, args: &str) -> Output {
        finish_within(CLIENT_LIMIT, self.client(key, args), &format!("lockdown {args}"), b"")
    }

    /// The same with a security device in the laptop.
    #[must_use]
    pub fn lockdown_with(&self, device: &Device, args: &str) -> Output {
        let mut command = self.client(device.key(), args);
        command.env("SSH_AUTH_SOCK", device.socket());
        finish_within(CLIENT_LIMIT, command, &format!("lockdown {args}"), b"")
    }

    fn client(&self, key: &Key, args: &str) -> Command {
        let home = key.path().with_extension("home");
        fs::create_dir_all(&home).expect("own directory");
        let mut command = self.net.command(&self.hosts[0]);
        command.arg(built("lockdown", "LOCKDOWN")).arg("--key").arg(key.path()).args(args.split(' '));
        command.env("LOCKDOWN_CONFIG", self.dir.join("lockdown.toml")).env("HOME", &home);
        command.env("XDG_RUNTIME_DIR", &home).env("LC_ALL", "C.UTF-8").env_remove("SSH_AUTH_SOCK");
        command
    }

    /// To be completed by a program that runs beside the server.
    pub(crate) fn in_net(&self) -> Command {
        self.net.command(&self.hosts[0])
    }

    /// Makes a token by the command line: `--role auditor --name tests`.
    ///
    /// # Panics
    /// When none is made.
    #[must_use]
    #[track_caller]
    pub fn token(&self, args: &str) -> String {
        self.tool(&format!("token create {args}"))
    }

    /// The authority that signed the server's certificate, in PEM.
    #[must_use]
    pub fn authority(&self) -> String {
        fs::read_to_string(self.dir.join("ca")).expect("own directory")
    }

    /// Ends the server as a crash would.
    pub fn stop_server(&mut self) {
        if let Some(mut child) = self.server.take() {
            // One that has ended already is ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the server with the state that it had.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_server(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.join("server.log")).expect("own directory");
        let mut command = self.in_net();
        command.arg(built("compliance-api", "COMPLIANCE_API")).arg("--config").arg(self.dir.join("server.toml"));
        command.arg("serve").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.server = Some(command.spawn().unwrap_or_else(|e| panic!("cannot start compliance-api: {e}")));
        eventually("the server listens", SOON, || {
            let mut command = self.net.command(&self.hosts[0]);
            command.args(["bash", "-c", &format!("exec 3<>/dev/tcp/{HERE}/8448")]);
            finish_within(Duration::from_secs(5), command, "connect", b"").ok()
        });
    }

    /// Runs a command of the server's on its state.
    #[track_caller]
    fn tool(&self, args: &str) -> String {
        let mut command = Command::new(built("compliance-api", "COMPLIANCE_API"));
        command.args(args.split(' ')).arg("--config").arg(self.dir.join("server.toml"));
        finish(command, &format!("compliance-api {args}"), b"").expect_ok()
    }

    fn server_key(&self) -> String {
        let said = self.hosts[0].sh(&format!("curl -sS --fail --cacert {CA} {}/v1/server", self.url()));
        let said: Value = serde_json::from_str(&said).expect("JSON");
        said["public_key"].as_str().expect("a server has a key").to_owned()
    }

    /// The configurations of server and client, and the server's certificate.
    fn write_server(&self) {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than the server's: OpenSSL takes what is issued by its own name for self-signed.
        params.distinguished_name.push(DnType::CommonName, "acme");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![HERE.to_owned()]).expect("an address");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let write = |name: &str, text: &str| fs::write(self.dir.join(name), text).expect("own directory");
        write("ca", &issuer.pem());
        write("cert", &certificate.pem());
        write("key", &key.serialize_pem());
        let (url, dir) = (self.url(), self.dir.display());
        fs::create_dir_all(self.dir.join("server")).expect("own directory");
        let own = format!(
            "listen = \"{HERE}:8448\"\nstate = \"{dir}/server\"\n[tls]\ncertificate = \"{dir}/cert\"\nkey = \"{dir}/key\"\n"
        );
        write("server.toml", &(own + &self.company.table(&format!("origin = \"{url}\""))));
        let client = format!("server = \"{url}\"\nca_file = \"{dir}/ca\"\n{}", self.company.table(""));
        write("lockdown.toml", &client);
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.stop_server();
        if thread::panicking() {
            let log = fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
            eprintln!("--- the server's log:\n{log}---");
        }
    }
}
