//! The TLS of the binaries that ship, against OpenSSL's server: `release/rustc` and `release/compile` leave parts of it out,
//! so what the libraries' own tests say of them is said again here. The client is the key exchange of NTS.

use minke_tests::dns_lab::soon;
use minke_tests::time_net::Scratch;
use minke_tests::{TARGETS, errors, in_namespace, release, run};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The servers' port, each in its own test's namespace.
pub(crate) const PORT: u16 = 4460;
/// A server's answer to a request: it is bad (RFC 8915 §4.1.3). So the client ends with [`HEARD`], and needs no NTP.
pub(crate) const ANSWER: [u8; 10] = [0x80, 2, 0, 2, 0, 1, 0x80, 0, 0, 0];
/// What the client says to [`ANSWER`]: the session carried data both ways.
pub(crate) const HEARD: &str = "the server finds our request bad (NTS-KE error 1)";
const OTHER_ISSUER: &str = "the certificate's issuer is unknown; see balenaRootCA";
pub(crate) const UNCHECKED: &str = "the certificate cannot be checked";
const NO_COMMON: &str = "the server cannot speak TLS 1.3 with our ciphers";

/// Authorities `root` and `stranger`; an intermediate one and a certificate for `localhost` of each kind of key; and what
/// is wrong with a certificate.
const CERTIFICATES: &str = "
  printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index\\nserial=serial\\nnew_certs_dir=.\\ndefault_md=sha256\\npolicy=p\\n
unique_subject=no\\n[p]\\ncommonName=supplied\\n[authority]\\nbasicConstraints=critical,CA:TRUE\\n
keyUsage=critical,keyCertSign\\n[server]\\nsubjectAltName=DNS:localhost\\nextendedKeyUsage=serverAuth\\n
[other]\\nsubjectAltName=DNS:other.test\\n' >ca.cnf
  : >index; echo 01 >serial
  day() { date -u -d \"$1 days\" +%Y%m%d%H%M%SZ; }
  key() {
    case $2 in
      rsa) openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $1.key ;;
      *) openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:$2 -out $1.key ;;
    esac
    openssl req -new -key $1.key -subj /CN=$1 -out $1.csr
  }
  # sign NAME EXTENSIONS TO ISSUER...
  sign() {
    name=$1 extensions=$2 to=$3; shift 3
    openssl ca -batch -config ca.cnf -in $name.csr -out $name.pem -notext -extensions $extensions \\
      -startdate $(day -9) -enddate $(day $to) \"$@\" 2>/dev/null
  }
  by() { echo -cert $1.pem -keyfile $1.key; }
  for name in root stranger; do key $name P-384; sign $name authority +9 -selfsign -keyfile $name.key; done
  for kind in P-256 P-384 rsa; do
    key inter-$kind $kind; sign inter-$kind authority +9 $(by root)
    key $kind $kind; sign $kind server +9 $(by inter-$kind)
  done
  for name in strange expired other self; do key $name P-256; done
  sign strange server +9 $(by stranger)
  sign expired server -1 $(by inter-P-256)
  sign other other +9 $(by inter-P-256)
  sign self server +9 -selfsign -keyfile self.key
  for kind in P-256 P-384 rsa; do
    cp $kind.key forged-$kind.key; openssl x509 -in $kind.pem -outform DER -out $kind.der
    python3 -c 'import sys; text = sys.stdin.buffer.read(); sys.stdout.buffer.write(text[:-1] + bytes([text[-1] ^ 1]))' \\
      <$kind.der | openssl x509 -inform DER -out forged-$kind.pem
  done
  cat inter-P-256.pem >long.pem
  for _ in $(seq 30); do cat inter-rsa.pem >>long.pem; done";

/// A server, and what becomes of a client's session with it.
struct Case {
    what: &'static str,
    /// The certificate's name.
    certificate: &'static str,
    /// Options of `openssl s_server` besides; they win over the usual ones.
    server: &'static str,
    /// What the server's account of the session holds, and how often.
    account: &'static [(&'static str, usize)],
    /// What the client says.
    says: &'static str,
}

const fn case(
    what: &'static str,
    certificate: &'static str,
    server: &'static str,
    account: &'static [(&'static str, usize)],
    says: &'static str,
) -> Case {
    Case { what, certificate, server, account, says }
}

/// The server's own message, as `s_server -msg` shows it.
const HELLO: &str = ", ServerHello";
const TICKET: &str = ", NewSessionTicket";

const CASES: [Case; 27] = [
    case("a certificate of P-256", "P-256", "", &[(HELLO, 1)], HEARD),
    case("a certificate of P-384", "P-384", "", &[], HEARD),
    case("a certificate of RSA", "rsa", "", &[], HEARD),
    case("X25519", "P-256", "-groups X25519", &[(HELLO, 1)], HEARD),
    // The client's first share is for X25519: another group is asked for by a HelloRetryRequest.
    case("P-256 alone", "P-256", "-groups P-256", &[(HELLO, 2)], HEARD),
    case("P-384 alone", "rsa", "-groups P-384", &[(HELLO, 2)], HEARD),
    case("no common group", "P-256", "-groups P-521", &[(HELLO, 0)], NO_COMMON),
    case(
        "ChaCha20",
        "P-256",
        "-ciphersuites TLS_CHACHA20_POLY1305_SHA256",
        &[("is TLS_CHACHA20_POLY1305_SHA256\n", 1)],
        HEARD,
    ),
    case(
        "AES-128",
        "P-256",
        "-ciphersuites TLS_AES_128_GCM_SHA256",
        &[("is TLS_AES_128_GCM_SHA256\n", 1)],
        HEARD,
    ),
    case(
        "AES-256",
        "P-384",
        "-ciphersuites TLS_AES_256_GCM_SHA384",
        &[("is TLS_AES_256_GCM_SHA384\n", 1)],
        HEARD,
    ),
    case("no common cipher", "P-256", "-ciphersuites TLS_AES_128_CCM_SHA256", &[(HELLO, 0)], NO_COMMON),
    case("a client's certificate is welcome", "P-256", "-verify 1", &[(", CertificateRequest", 1)], HEARD),
    case(
        "a client's certificate is required",
        "P-256",
        "-Verify 1",
        &[(", CertificateRequest", 1)],
        "the server broke the TLS session off",
    ),
    case("no tickets", "P-256", "-num_tickets 0", &[(TICKET, 0)], HEARD),
    case("tickets", "P-256", "-num_tickets 9", &[(TICKET, 9)], HEARD),
    case("messages in pieces", "rsa", "-max_send_frag 512", &[], HEARD),
    case("a chain of several records", "P-256", "-cert_chain long.pem", &[], HEARD),
    case("another protocol", "P-256", "-alpn http/1.1", &[], "the server has TLS for another protocol"),
    case("TLS 1.2", "P-256", "-tls1_2", &[(HELLO, 0)], NO_COMMON),
    case("a stranger's certificate", "strange", "", &[], OTHER_ISSUER),
    case("a certificate that nobody else has signed", "self", "", &[], OTHER_ISSUER),
    case("an expired certificate", "expired", "", &[], "the certificate expired at "),
    case("another name's certificate", "other", "", &[], "the certificate is for another name"),
    case("a forged certificate, P-256", "forged-P-256", "", &[], UNCHECKED),
    case("a forged certificate, P-384", "forged-P-384", "-cert_chain inter-P-384.pem", &[], UNCHECKED),
    case("a forged certificate, RSA", "forged-rsa", "-cert_chain inter-rsa.pem", &[], UNCHECKED),
    case(
        "an authority's certificate",
        "inter-P-256",
        "",
        &[],
        "the certificate is an authority's and no server's",
    ),
];

/// Makes [`CERTIFICATES`].
pub(crate) fn certificates(folder: &Path) {
    run(Command::new("sh").args(["-ec", CERTIFICATES]).current_dir(folder));
}

/// The client that ships for `target`, as it asks the server.
pub(crate) fn client(target: &str, folder: &Path) -> Command {
    let (_, emulator) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let mut command = Command::new("env");
    // This machine's own programs run as they are.
    if target != "x86_64" {
        command.args(*emulator);
    }
    command.arg(release(target)).args(["ntp", "query", "--nts", "-4", "--timeout", "60", "--trust"]);
    command.arg(folder.join("root.pem")).arg(format!("localhost:{PORT}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What is wrong with how a client has ended: it should by itself, with one line that says this.
pub(crate) fn wrong(what: &str, output: &Output, says: &str) -> Option<String> {
    let line = errors(output);
    let expected = format!("ntp: NTS key exchange with localhost: {says}");
    let right = output.status.code() == Some(1) && line.starts_with(&expected) && line.lines().count() == 1;
    (!right).then(|| format!("{what}: {}, {line:?}, not {says:?}", output.status))
}

/// Fails with all that is wrong.
pub(crate) fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// OpenSSL's server for one session; it ends with the value.
struct Server(Child);

impl Server {
    fn start(folder: &Path, case: &Case) -> Self {
        let log = File::create(folder.join("server.log")).unwrap();
        let name = case.certificate;
        let issuer = if ["P-384", "rsa"].contains(&name) { name } else { "P-256" };
        let usual = format!(
            "s_server -4 -msg -naccept 1 -accept {PORT} -cert {name}.pem -key {name}.key -cert_chain inter-{issuer}.pem \
             -alpn ntske/1 {}",
            case.server
        );
        let mut command = Command::new("openssl");
        command.args(usual.split_whitespace()).current_dir(folder).stdin(Stdio::piped());
        Self(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    /// Sends data in the session.
    fn say(&mut self, data: &[u8]) {
        std::io::Write::write_all(self.0.stdin.as_mut().unwrap(), data).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is wrong with a client's session with a server.
fn meet(target: &str, folder: &Path, case: &Case) -> Option<String> {
    let account = || std::fs::read(folder.join("server.log")).unwrap();
    let holds = |wanted: &[u8]| account().windows(wanted.len()).any(|bytes| bytes == wanted);
    let mut server = Server::start(folder, case);
    let what = format!("{target}, {}", case.what);
    assert!(soon(|| holds(b"ACCEPT")), "{what}: no server: {}", String::from_utf8_lossy(&account()));
    let mut client = client(target, folder).spawn().unwrap();
    let request = minke_wire::nts::request();
    while client.try_wait().unwrap().is_none() && !holds(&request) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    if holds(&request) {
        // New keys before the answer; it is their first use.
        server.say(b"K\n");
        assert!(soon(|| holds(b", KeyUpdate")), "{what}: no new keys");
        server.say(&ANSWER);
    }
    let output = client.wait_with_output().unwrap();
    let account = String::from_utf8_lossy(&account()).into_owned();
    let other = case.account.iter().find(|(words, times)| account.matches(words).count() != *times);
    let other = other.map(|(words, times)| format!("{what}: not {times} times {words:?}:\n{account}"));
    wrong(&what, &output, case.says).or(other)
}

fn meet_all(target: &str) {
    in_namespace(|| {
        let scratch = Scratch::new(&format!("tls-{target}"));
        certificates(&scratch.0);
        none(&CASES.iter().filter_map(|case| meet(target, &scratch.0, case)).collect::<Vec<_>>());
    });
}

#[test]
fn every_kind_of_server_is_understood_or_refused_in_a_line() {
    meet_all("x86_64");
}

#[test]
fn every_kind_of_server_is_understood_or_refused_in_a_line_by_armv6() {
    meet_all("armv6");
}
