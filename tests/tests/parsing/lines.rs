//! The lines to compare readings of: the table in `data/authorized_keys_lines/table`, and generated ones.
//!
//! Each line has a key of its own, so that one file can hold them all and an answer about a key is an answer about a line.

use base64ct::{Base64, Encoding as _};
use sha2::{Digest as _, Sha256};

/// How many lines are generated.
pub(crate) const GENERATED: u32 = 600;

/// What the table says of one of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It lets the key's holder in.
    Live,
    /// It lets nobody in.
    Dead,
    /// Some sshd or some moment refuses it; we have to take it for live.
    Doubt,
}

/// A line, or what looked like one, and the key it is about.
pub(crate) struct Case {
    /// Where it comes from, for messages.
    pub origin: String,
    /// What the table says; nothing for generated lines.
    pub verdict: Option<Verdict>,
    /// The bytes, line end included.
    pub bytes: Vec<u8>,
    /// The key in its plain spelling, `TYPE BASE64`, as a client offers it.
    pub offered: String,
}

/// Every line of the table.
pub(crate) fn table() -> Vec<Case> {
    let mut spare: Vec<&str> = include_str!("../../data/authorized_keys_lines/spare_keys.pub").lines().collect();
    include_str!("../../data/authorized_keys_lines/table")
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
        .map(|(number, line)| {
            let origin = format!("table line {}: {line}", number + 1);
            let (verdict, template) = line.split_once(' ').unwrap_or_else(|| panic!("{origin}"));
            let verdict = match verdict {
                "live" => Verdict::Live,
                "dead" => Verdict::Dead,
                "doubt" => Verdict::Doubt,
                _ => panic!("{origin}: live, dead or doubt"),
            };
            let (bytes, offered) = expand(template, &format!("table {number}"), &mut spare);
            Case { origin, verdict: Some(verdict), bytes, offered }
        })
        .collect()
}

/// The bytes that a template stands for, and the key in it.
///
/// `{ed25519}`, `{rsa}`, `{rsa1024}`, `{p256}`, … stand for `TYPE BASE64`, with `.type` or `.base64` for one of the two, and
/// `.head`, `.tail` for the base64's parts; what is not a name in braces stands for itself. `\t \n \r \v \f \0 \\ \xNN` are
/// bytes, and a line end is added unless the template ends in `\c`.
fn expand(template: &str, seed: &str, spare: &mut Vec<&str>) -> (Vec<u8>, String) {
    let (template, line_end) = template.strip_suffix("\\c").map_or((template, &b"\n"[..]), |cut| (cut, b""));
    let mut offered = String::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').expect("a closing brace");
        let (kind, part) = name.split_once('.').unwrap_or((name, ""));
        if offered.is_empty() {
            offered = key(kind, seed, spare);
        }
        let spelt = odd_spelling(kind, seed).unwrap_or_else(|| offered.clone());
        let (algorithm, base64) = spelt.split_once(' ').expect("a type and base64");
        text.push_str(before);
        text.push_str(match part {
            "" => &spelt,
            "type" => algorithm,
            "base64" => base64,
            "head" => &base64[..21],
            "tail" => &base64[21..],
            _ => panic!("{{{name}}}"),
        });
        rest = after;
    }
    text.push_str(rest);
    if offered.is_empty() {
        offered = key("ed25519", seed, spare);
    }
    let mut bytes = unescape(&text);
    bytes.extend_from_slice(line_end);
    (bytes, offered)
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().expect("something after a backslash") {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                b'v' => 0x0b,
                b'f' => 0x0c,
                b'0' => 0,
                b'x' => {
                    let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                    u8::from_str_radix(std::str::from_utf8(&digits).expect("ASCII"), 16).expect("hex digits")
                }
                other => other,
            },
            other => other,
        });
    }
    bytes
}

/// The key that a client would offer, in ssh-keygen's spelling.
fn key(kind: &str, seed: &str, spare: &mut Vec<&str>) -> String {
    let wanted = match kind {
        "p256" => "ecdsa-sha2-nistp256 ",
        "p384" => "ecdsa-sha2-nistp384 ",
        "p521" => "ecdsa-sha2-nistp521 ",
        "dsa" => "ssh-dss ",
        "certificate" => "ssh-ed25519-cert-v01@openssh.com ",
        "sk-p256" => {
            let point = key("p256", seed, spare);
            let plain = Base64::decode_vec(point.split_once(' ').expect("base64").1).expect("base64");
            let mut blob = string(b"sk-ecdsa-sha2-nistp256@openssh.com");
            blob.extend_from_slice(&plain[4 + "ecdsa-sha2-nistp256".len()..]);
            blob.extend(string(b"ssh:"));
            return spell("sk-ecdsa-sha2-nistp256@openssh.com", &blob);
        }
        _ if kind.starts_with("rsa") => {
            let bits = kind[3..].split('-').next().and_then(|bits| bits.parse().ok()).unwrap_or(2048);
            return spell("ssh-rsa", &[string(b"ssh-rsa"), string(&[1, 0, 1]), string(&modulus(seed, bits))].concat());
        }
        _ if kind.starts_with("sk-ed25519") => {
            let name = b"sk-ssh-ed25519@openssh.com";
            let blob = [string(name), string(&digest(seed, 0)), string(b"ssh:")].concat();
            return spell("sk-ssh-ed25519@openssh.com", &blob);
        }
        _ => return spell("ssh-ed25519", &[string(b"ssh-ed25519"), string(&digest(seed, 0))].concat()),
    };
    let at = spare.iter().position(|line| line.starts_with(wanted)).expect("a spare key of each kind is left");
    spare.remove(at).to_owned()
}

/// The same key in a spelling that no tool writes.
fn odd_spelling(kind: &str, seed: &str) -> Option<String> {
    let point = digest(seed, 0);
    let ed25519 = |name: &[u8], more: &[u8]| spell("ssh-ed25519", &[&string(name)[..], &string(&point), more].concat());
    let rsa = |name: &[u8], e: &[u8], n: &[u8]| spell("ssh-rsa", &[string(name), string(e), string(n)].concat());
    let n = modulus(seed, 2048);
    Some(match kind {
        "ed25519-short-name" => ed25519(b"ED25519", b""),
        "ed25519-short-name-lower" => ed25519(b"ed25519", b""),
        "ed25519-nul-name" => ed25519(b"ssh-ed25519\0", b""),
        "ed25519-two-nul-name" => ed25519(b"ssh-ed25519\0\0", b""),
        "ed25519-trailing" => ed25519(b"ssh-ed25519", b"\0"),
        "ed25519-other-name" => ed25519(b"ssh-rsa", b""),
        "ed25519-unknown-name" => ed25519(b"ssh-ed25518", b""),
        "ed25519-certificate-name" => ed25519(b"ssh-ed25519-cert-v01@openssh.com", b""),
        "ed25519-31" => spell("ssh-ed25519", &[string(b"ssh-ed25519"), string(&point[..31])].concat()),
        "rsa-short-name" => rsa(b"RSA", &[1, 0, 1], &n),
        "rsa-sha2-name" => rsa(b"rsa-sha2-256", &[1, 0, 1], &n),
        "rsa-zeros" => rsa(b"ssh-rsa", &[0, 0, 1, 0, 1], &[&[0, 0, 0][..], &n].concat()),
        "rsa-negative" => rsa(b"ssh-rsa", &[1, 0, 1], &n[1..]),
        "sk-ed25519-short-name" => {
            let blob = [string(b"ED25519-SK"), string(&point), string(b"ssh:")].concat();
            spell("sk-ssh-ed25519@openssh.com", &blob)
        }
        "sk-ed25519-nul-application" => {
            let blob = [string(b"sk-ssh-ed25519@openssh.com"), string(&point), string(b"ssh:\0")].concat();
            spell("sk-ssh-ed25519@openssh.com", &blob)
        }
        _ => return None,
    })
}

fn spell(algorithm: &str, blob: &[u8]) -> String {
    format!("{algorithm} {}", Base64::encode_string(blob))
}

/// RFC 4251's string.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A number of so many bits with a zero byte before it, odd.
fn modulus(seed: &str, bits: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (1..).flat_map(|block| digest(seed, block)).take(bits / 8).collect();
    bytes[0] |= 0x80;
    *bytes.last_mut().expect("more than nothing") |= 1;
    bytes.insert(0, 0);
    bytes
}

fn digest(seed: &str, block: u32) -> [u8; 32] {
    Sha256::digest(format!("{seed}/{block}")).into()
}

/// Lines put together from what matters to a reader of such lines, the same at every run.
pub(crate) fn generated() -> Vec<Case> {
    (0..GENERATED).map(generate).collect()
}

fn generate(number: u32) -> Case {
    const PIECES: [&str; 52] = [
        " ",
        " ",
        " ",
        "\t",
        ",",
        ",",
        ",",
        ",",
        "\"",
        "\\\"",
        "\\",
        "=",
        "#",
        "\r",
        "\0",
        "\u{b}",
        "\u{e9}",
        "restrict",
        "no-pty",
        "NO-PTY",
        "pty",
        "no-restrict",
        "cert-authority",
        "from=\"*\"",
        "from=\"127.0.0.1\"",
        "command=\"a b\"",
        "command=\"a\\\"b\"",
        "command=\"#,\"",
        "environment=\"A=b\"",
        "environment=\"A\"",
        "permitopen=\"h:1\"",
        "permitopen=\"h\"",
        "permitlisten=\"22\"",
        "permitlisten=\"[::1]:0\"",
        "tunnel=\"1\"",
        "tunnel=\"x\"",
        "expiry-time=\"20991231\"",
        "expiry-time=\"20991231235959Z\"",
        "expiry-time=\"2099\"",
        "principals=\"x\"",
        "user-rc",
        "no-touch-required",
        "no-verify-required",
        "x11-forwarding",
        "ssh-ed25519",
        "ssh-rsa",
        "AAAA",
        "unknown",
        "unknown=\"a\"",
        "no-",
        "agent-forwarding",
        "port-forwarding",
    ];
    let seed = format!("generated {number}");
    let offered = key("ed25519", &seed, &mut Vec::new());
    let mut random = (0..).flat_map(|block| digest(&seed, 1000 + block));
    let mut next = |below: usize| usize::from(random.next().expect("it never ends")) % below;
    let mut text = String::new();
    for _ in 0..next(5) {
        text.push_str(PIECES[next(PIECES.len())]);
        // Most pieces are options: without a comma most lines would be dead at once.
        text.push_str([",", ",", "", " "][next(4)]);
    }
    text.push_str([" ", " ", " ", "\t", "  ", "", ","][next(7)]);
    let base64 = offered.split_once(' ').expect("base64").1;
    match next(12) {
        0 => text.push_str(&offered.replacen(' ', "\t", 1)),
        1 => text.push_str(&offered.replacen(' ', "  \t", 1)),
        2 => text.push_str(&offered.replacen("AAAA", "AAAA\r\u{b}", 1)),
        3 => text.push_str(&offered.replacen("AAAA", PIECES[next(PIECES.len())], 1)),
        4 => text.push_str(&format!("ssh-rsa {base64}")),
        5 => text.push_str(&format!("{}{offered}", PIECES[next(PIECES.len())])),
        _ => text.push_str(&offered),
    }
    for _ in 0..next(3) {
        text.push_str(PIECES[next(PIECES.len())]);
    }
    let mut bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).expect("all below 256")).collect();
    bytes.extend_from_slice([&b"\n"[..], b"\r\n", b"\n\n"][next(3)]);
    Case { origin: format!("generated line {number}: {text:?}"), verdict: None, bytes, offered }
}
