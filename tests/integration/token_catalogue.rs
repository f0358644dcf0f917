//! Every way to forge, bend or misuse a token is refused with 401 and leaves an entry of nobody; every right one is accepted.

mod forged;

use std::collections::{HashMap, HashSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use nodeaudit::audit::ring::FILE_NAME;
use serde_json::{Value, json};

use forged::Forger;

use crate::support::{AUDIENCE, Agent, ISSUER, Issuer, KIDS, Request, assert_is_error, now_s, run, skipped};

/// The header of a token that is accepted.
const ED_HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT","kid":"ed"}"#;

/// A secret that the node accepts beside public keys.
const SECRET: &str = "a secret of more than thirty-two bytes, for this test";

/// The list of tokens that are called back, as an editor wrote it that begins with a mark.
const REVOKED: &str = "\u{feff}first\n# lost\ncalled-back\n\"#1\"\n\"  blanks \"\n";

/// Attempts that differ in how near they come to a key.
const NOT_SIGNED: [&str; 8] = [
    "kid unknown",
    "kid empty",
    "alg of another family",
    "alg HS256 for a public key",
    "a stronger alg of no key",
    "signature altered",
    "HMAC with a guessed secret",
    "a key out of force as retired",
];

/// What a node is told in this test.
fn start(issuer: &Issuer) -> Agent {
    let file = |name: &str, text: &str| {
        let path = issuer.folder().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (secret, revoked) = (file("shared.key", SECRET), file("revoked", REVOKED));
    let files = format!("key_file = \"{}\"\nrevoked_tokens = \"{}\"\n", secret.display(), revoked.display());
    // More refused credentials than a patient agent takes.
    let limits = "[limits]\npeer_per_s = 0\nactor_per_s = 0\nfailures_per_min = 0\n";
    issuer.node(&format!("{files}max_lifetime_s = 86400\n{limits}")).start()
}

/// Claims that are accepted.
fn good() -> Value {
    json!({
        "sub": "ada@example.com", "roles": ["read"], "jti": "a-token",
        "iss": ISSUER, "aud": AUDIENCE, "iat": now_s(), "exp": now_s() + 600,
    })
}

/// The same with some replaced, added, or, where they are null, left out.
fn with(changes: &Value) -> String {
    let mut claims = good();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims.to_string()
}

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token with a signature by HMAC with this secret.
fn by_secret(header: &str, claims: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(secret);
    format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap())
}

#[test]
fn each_attempt_is_refused_and_leaves_an_entry_of_nobody() {
    let Some(issuer) = Issuer::new() else { return };
    let attempts = Forger::new(&issuer).attempts();
    let agent = start(&issuer);
    let (mut entries, mut unsigned) = (HashSet::new(), HashMap::new());
    for (name, headers) in &attempts {
        let request = Request::new("PUT", "/node/hostname").json(r#"{"hostname": "evil"}"#);
        let request = headers.iter().fold(request, |request, value| request.header("Authorization", value));
        let response = agent.call(&request);
        assert_eq!(response.status, 401, "{name}: {}", response.text());
        let details = assert_is_error(&response, 401);
        assert!(response.header("WWW-Authenticate").is_some(), "{name}");
        let entry = agent.entry_of(&response);
        let whose = ["user", "roles", "class", "outcome", "response_code"].map(|field| entry[field].clone());
        assert_eq!(Value::from(whose.to_vec()), json!(["", [], "denied", "completed", 401]), "{name}: {entry}");
        for absent in ["token_id", "auth_method"] {
            assert_eq!(entry.get(absent), None, "{name}: {entry}");
        }
        assert!(!details.contains("ada") && !details.contains("evil"), "{name}: {details}");
        assert!(entries.insert(entry["id"].clone()), "{name}");
        if NOT_SIGNED.contains(&name.as_str()) {
            unsigned.insert(name, details);
        }
    }
    assert_eq!(unsigned.len(), NOT_SIGNED.len(), "{unsigned:?}");
    for (name, details) in unsigned {
        assert_eq!(details, "The token is not signed with a key of this node.", "{name} tells which keys there are");
    }
    assert!(attempts.len() > 140, "{}", attempts.len());
    assert_eq!(entries.len(), attempts.len(), "each attempt has an entry of its own");

    // A token elsewhere is none.
    let token = issuer.sign("ed", Algorithm::EdDSA, ED_HEADER, &good().to_string());
    for target in [format!("/node/hostname?access_token={token}"), format!("/node/hostname?token={token}")] {
        let response = agent.call(&Request::get(&target));
        assert_eq!(response.status, 401, "{target}");
        let entry = agent.entry_of(&response);
        assert_eq!((&entry["user"], &entry["class"]), (&json!(""), &json!("denied")), "{entry}");
    }
    for header in ["Cookie", "X-Access-Token", "Proxy-Authorization"] {
        let response = agent.call(&Request::get("/node/hostname").header(header, format!("Bearer {token}")));
        assert_eq!(response.status, 401, "{header}");
    }
    let ring = fs::read(agent.node().state_dir().join(FILE_NAME)).unwrap();
    let signature = token.rsplit('.').next().unwrap();
    assert!(!ring.windows(signature.len()).any(|part| part == signature.as_bytes()), "a token is in the ring");
}

#[test]
fn each_right_token_is_accepted_and_its_entry_says_whose_it_is() {
    let Some(issuer) = Issuer::new() else { return };
    let agent = start(&issuer);
    let ed = |header: &str, claims: &str| issuer.sign("ed", Algorithm::EdDSA, header, claims);
    let with_fraction = |s: i64| serde_json::from_str::<Value>(&format!("{s}.5")).unwrap();
    let fractions = json!({"exp": with_fraction(now_s() + 600), "iat": with_fraction(now_s() - 1)});
    let mut right: Vec<(String, String)> = Vec::new();
    for (kid, algorithm, _) in KIDS {
        let claims = good().to_string();
        let header = |members: &str| format!(r#"{{"alg":"{algorithm:?}"{members}}}"#);
        for members in [
            format!(r#","kid":"{kid}""#),
            format!(r#","kid":"{kid}","typ":"at+jwt""#),
            format!(r#","kid":"{kid}","typ":"application/at+jwt""#),
            String::new(),
        ] {
            let token = issuer.sign(kid, algorithm, &header(&members), &claims);
            right.push((format!("{algorithm:?} {members}"), token));
        }
    }
    let secret = SECRET.as_bytes();
    right.push(("HS256".to_owned(), by_secret(r#"{"alg":"HS256","kid":"shared"}"#, &good().to_string(), secret)));
    right.push(("HS256, no kid".to_owned(), by_secret(r#"{"alg":"HS256"}"#, &good().to_string(), secret)));
    for (name, changes) in [
        ("a list of audiences", json!({"aud": ["other", AUDIENCE]})),
        ("nbf now", json!({"nbf": now_s()})),
        ("clocks that differ by less than the leeway", json!({"iat": now_s() + 3, "nbf": now_s() + 3})),
        ("fractions", fractions),
        ("the longest life", json!({"exp": now_s() + 86_400 - 10, "iat": now_s() - 10})),
        ("claims of others", json!({"azp": 7, "scope": "x", "email_verified": true, "nested": {"a": [1]}})),
        ("32 roles", json!({"roles": vec!["read"; 32]})),
        ("a jti that another comment would be", json!({"jti": "# lost"})),
        ("a jti without the blanks of one that is revoked", json!({"jti": "blanks"})),
        ("a subject in another script", json!({"sub": "ада"})),
        ("almost 4 KiB", json!({"x": "x".repeat(2_500)})),
    ] {
        right.push((name.to_owned(), ed(ED_HEADER, &with(&changes))));
    }
    for header in [
        r#"{"alg":"EdDSA","kid":"ed","jku":"http://127.0.0.1:9/jwks.json","x5u":"http://127.0.0.1:9/"}"#,
        r#"{"alg":"EdDSA","kid":"ed","other":[1]}"#,
        r#"{ "kid" : "ed" , "alg" : "EdDSA" }"#,
    ] {
        right.push((header.to_owned(), ed(header, &good().to_string())));
    }
    for (kid, ..) in KIDS {
        let key = issuer.private_key(kid);
        let line = ["token", "issue", "--subject", "ada@example.com", "--role", "read", "--ttl", "10m"];
        let more = ["--audience", AUDIENCE, "--issuer", ISSUER, "--signing-key", key.to_str().unwrap(), "--dev"];
        let printed = run(&[&line[..], &more].concat());
        assert!(printed.status.success(), "{printed:?}");
        right
            .push((format!("{kid} by the command line"), String::from_utf8(printed.stdout).unwrap().trim().to_owned()));
    }
    right.extend(by_pyjwt(&issuer));

    for (name, token) in &right {
        // The second time from what is remembered.
        for _ in 0..2 {
            let response = agent.call(&Request::get("/node/hostname").bearer(token));
            assert_eq!(response.status, 200, "{name}: {}", response.text());
            let entry = agent.entry_of(&response);
            assert_eq!((&entry["class"], &entry["auth_method"]), (&json!("read"), &json!("bearer")), "{name}: {entry}");
            assert!(entry["user"] == "ada@example.com" || entry["user"] == "ада", "{name}: {entry}");
        }
        let refused = agent.call(&Request::new("PUT", "/node/hostname").json(r#"{"hostname": "x"}"#).bearer(token));
        assert_eq!(refused.status, 403, "{name}");
    }
}

/// Tokens that another library makes, of each algorithm. None where it is missing; it says so loudly.
fn by_pyjwt(issuer: &Issuer) -> Vec<(String, String)> {
    const PYTHON: &str = "/usr/bin/python3";
    const SCRIPT: &str = "
import json, sys, jwt
claims, keys = json.loads(sys.argv[1]), json.loads(sys.argv[2])
print(json.dumps([jwt.encode(claims, open(file).read(), algorithm=alg, headers={'kid': kid}) for alg, kid, file in keys]))
";
    let has = Command::new(PYTHON).args(["-c", "import jwt, cryptography"]).stderr(Stdio::null()).status();
    if !Path::new(PYTHON).exists() || !has.is_ok_and(|status| status.success()) {
        skipped("tokens of PyJWT (python3-jwt, python3-cryptography)");
        return Vec::new();
    }
    let mut keys: Vec<Value> = KIDS
        .iter()
        .map(|(kid, algorithm, _)| json!([format!("{algorithm:?}"), kid, issuer.private_key(kid)]))
        .collect();
    keys.push(json!(["HS256", "shared", issuer.folder().join("shared.key")]));
    let arguments = [good().to_string(), Value::from(keys).to_string()];
    let made = Command::new(PYTHON).args(["-c", SCRIPT]).args(arguments).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let tokens: Vec<String> = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(tokens.len(), 4);
    tokens.into_iter().map(|token| ("PyJWT".to_owned(), token)).collect()
}
