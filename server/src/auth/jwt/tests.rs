//! Tokens of every method, and what is no token.

use std::path::Path;
use std::process::Command;

use super::*;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// Makes keys with openssl, as etcd's users do.
fn openssl(folder: &Path, line: &str) {
    let words = line.split_whitespace();
    let made = Command::new("openssl")
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{line}: {made:?}");
}

fn options(folder: &Path, method: &str, public: Option<&str>, private: Option<&str>) -> String {
    let mut options = format!("sign-method={method},ttl=10s");
    let mut add = |name: &str, file: Option<&str>| {
        if let Some(file) = file {
            options.push_str(&format!(",{name}={}", folder.join(file).display()));
        }
    };
    add("pub-key", public);
    add("priv-key", private);
    options
}

fn made() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        "genrsa -out rsa 2048",
        "genrsa -traditional -out rsa1 2048",
        "rsa -in rsa -pubout -out rsa.pub",
        "ecparam -name prime256v1 -genkey -noout -out p256",
        "ec -in p256 -pubout -out p256.pub",
        "ecparam -name secp384r1 -genkey -noout -out p384",
        "ecparam -name secp521r1 -genkey -noout -out p521",
        "genpkey -algorithm ed25519 -out ed",
        "pkey -in ed -pubout -out ed.pub",
    ] {
        openssl(folder.path(), line);
    }
    std::fs::write(folder.path().join("secret"), "a secret").unwrap();
    folder
}

#[test]
fn every_method_reads_what_it_has_signed_and_nothing_else() {
    let folder = made();
    let folder = folder.path();
    let mut all: Vec<(Jwt, String)> = Vec::new();
    for (method, public, private) in [
        ("RS256", Some("rsa.pub"), "rsa"),
        ("RS384", None, "rsa1"),
        ("RS512", None, "rsa"),
        ("PS256", Some("rsa.pub"), "rsa"),
        ("PS384", None, "rsa"),
        ("PS512", None, "rsa"),
        ("ES256", Some("p256.pub"), "p256"),
        ("ES384", None, "p384"),
        ("ES512", None, "p521"),
        ("EdDSA", Some("ed.pub"), "ed"),
        ("HS256", None, "secret"),
        ("HS384", None, "secret"),
        ("HS512", None, "secret"),
    ] {
        let jwt = Jwt::new(&options(folder, method, public, Some(private)));
        let jwt = jwt.unwrap_or_else(|why| panic!("{method}: {why}"));
        let token = jwt.sign("ann", 7, NOW).unwrap();
        all.push((jwt, token));
    }
    for (n, (jwt, _)) in all.iter().enumerate() {
        for (m, (_, token)) in all.iter().enumerate() {
            let read = jwt.check(token, NOW);
            let expected = (n == m).then(|| ("ann".to_owned(), 7));
            assert_eq!(read, expected, "{} reads {token}", jwt.method);
        }
    }
}

#[test]
fn a_token_ends_and_a_changed_one_is_none() {
    let folder = made();
    let jwt = Jwt::new(&options(folder.path(), "HS256", None, Some("secret"))).unwrap();
    let token = jwt.sign("ann", 7, NOW).unwrap();
    let later = |seconds: u64| UnixMillis(NOW.0 + seconds * 1000);
    assert!(jwt.check(&token, later(9)).is_some());
    assert_eq!(jwt.check(&token, later(10)), None);
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let claims = URL_SAFE_NO_PAD.encode(r#"{"username":"root","revision":9}"#);
    let (said, signature) = token.rsplit_once('.').unwrap();
    let (head, _) = said.split_once('.').unwrap();
    for forged in [
        format!("{none}.{claims}."),
        format!("{head}.{claims}.{signature}"),
        format!("{said}."),
        said.to_owned(),
        String::new(),
        "a.b.c".to_owned(),
    ] {
        assert_eq!(jwt.check(&forged, NOW), None, "{forged}");
    }
}

#[test]
fn half_a_pair_only_checks_and_two_halves_must_be_of_one() {
    let folder = made();
    let folder = folder.path();
    let whole = Jwt::new(&options(folder, "RS256", None, Some("rsa"))).unwrap();
    let half = Jwt::new(&options(folder, "RS256", Some("rsa.pub"), None)).unwrap();
    let token = whole.sign("ann", 7, NOW).unwrap();
    assert!(half.check(&token, NOW).is_some());
    assert_eq!(half.sign("ann", 7, NOW), Err(AuthRefusal::VerifyOnly));
    for (method, public, private, part) in [
        ("RS256", Some("rsa.pub"), Some("rsa1"), "don't match"),
        ("RS256", None, None, "missing key"),
        ("HS256", Some("rsa.pub"), None, "missing key"),
        ("ES256", None, Some("rsa"), "another kind"),
        ("none", None, Some("rsa"), "sign-method"),
    ] {
        let Err(why) = Jwt::new(&options(folder, method, public, private)) else {
            panic!("{method} {public:?} {private:?} is taken")
        };
        assert!(why.contains(part), "{why}");
    }
}
