//! Every way to forge, bend or misuse a token is refused with 401 and leaves an entry of nobody; every right one is accepted.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use nodeaudit::audit::ring::FILE_NAME;
use serde_json::{Value, json};

use crate::support::{AUDIENCE, Agent, ISSUER, Issuer, KIDS, Request, assert_is_error, now_s, run, skipped};

/// A secret that the node accepts beside public keys.
const SECRET: &str = "a secret of more than thirty-two bytes, for this test";

/// What a node is told in this test.
fn start(issuer: &Issuer) -> Agent {
    let file = |name: &str, text: &str| {
        let path = issuer.folder().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (secret, revoked) = (file("shared.key", SECRET), file("revoked", "# lost\ncalled-back\n"));
    issuer.node(&format!("key_file = {secret:?}\nrevoked_tokens = {revoked:?}\nmax_lifetime_s = 86400\n")).start()
}

/// Claims that are accepted.
fn good() -> Value {
    json!({
        "sub": "ada@example.com", "roles": ["read"], "jti": "a-token",
        "iss": ISSUER, "aud": AUDIENCE, "iat": now_s(), "exp": now_s() + 600,
    })
}

/// The same with some replaced, added, or, where they are null, left out.
fn with(changes: Value) -> String {
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

const ED_HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT","kid":"ed"}"#;

/// What is tried: a name, and the requests' `Authorization` headers.
type Attempt = (String, Vec<String>);

fn attempts(issuer: &Issuer) -> Vec<Attempt> {
    let ed = |header: &str, claims: &str| issuer.sign("ed", Algorithm::EdDSA, header, claims);
    let claims = good().to_string();
    let right = ed(ED_HEADER, &claims);
    let (message, signature) = right.rsplit_once('.').unwrap();
    let header_of = |header: &str| format!("{}.{}.{signature}", encode(header), encode(&claims));
    let public = |kid: &str| fs::read(issuer.public_keys().join(format!("{kid}.pem"))).unwrap();
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, token: String| all.push((name.to_owned(), token));

    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({"alg": alg, "typ": "JWT"}).to_string();
        add(&format!("alg {alg:?} without signature"), format!("{}.{}.", encode(&header), encode(&claims)));
        add(&format!("alg {alg:?} with a signature"), ed(&header, &claims));
    }
    for (name, header) in [
        ("no alg", r#"{"typ":"JWT","kid":"ed"}"#),
        ("alg twice", r#"{"alg":"EdDSA","alg":"none","kid":"ed"}"#),
        ("alg twice, the right one last", r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#),
        ("alg lower-case", r#"{"alg":"eddsa","kid":"ed"}"#),
        ("alg null", r#"{"alg":null,"kid":"ed"}"#),
        ("alg in a list", r#"{"alg":["EdDSA"],"kid":"ed"}"#),
        ("alg of another family", r#"{"alg":"RS256","kid":"ed"}"#),
        ("alg HS256 for a public key", r#"{"alg":"HS256","kid":"ed"}"#),
        ("a stronger alg of no key", r#"{"alg":"RS512","kid":"rsa"}"#),
        ("unknown crit", r#"{"alg":"EdDSA","kid":"ed","crit":["x"],"x":1}"#),
        ("crit b64", r#"{"alg":"EdDSA","kid":"ed","crit":["b64"],"b64":false}"#),
        ("crit empty", r#"{"alg":"EdDSA","kid":"ed","crit":[]}"#),
        ("kid unknown", r#"{"alg":"EdDSA","kid":"other"}"#),
        ("kid twice", r#"{"alg":"EdDSA","kid":"other","kid":"ed"}"#),
        ("kid a path", r#"{"alg":"EdDSA","kid":"../public/ed"}"#),
        ("kid an absolute path", r#"{"alg":"HS256","kid":"/dev/null"}"#),
        ("kid an injection", r#"{"alg":"EdDSA","kid":"ed' OR '1'='1"}"#),
        ("kid a command", r#"{"alg":"EdDSA","kid":"ed;id"}"#),
        ("kid with a NUL", r#"{"alg":"EdDSA","kid":"ed\u0000"}"#),
        ("kid empty", r#"{"alg":"EdDSA","kid":""}"#),
        ("kid a number", r#"{"alg":"EdDSA","kid":0}"#),
        ("typ of a logout token", r#"{"alg":"EdDSA","kid":"ed","typ":"logout+jwt"}"#),
        ("typ empty", r#"{"alg":"EdDSA","kid":"ed","typ":""}"#),
        ("header a list", r#"["EdDSA"]"#),
        ("header empty", ""),
    ] {
        add(name, ed(header, &claims));
    }
    // The private half is the attacker's; the header says where its public half would be.
    issuer.make("mallory", &["-algorithm", "ed25519"]);
    fs::remove_file(issuer.public_keys().join("mallory.pem")).unwrap();
    for header in [
        ED_HEADER.to_owned(),
        r#"{"alg":"EdDSA","kid":"mallory"}"#.to_owned(),
        r#"{"alg":"EdDSA"}"#.to_owned(),
        r#"{"alg":"EdDSA","kid":"ed","jku":"http://127.0.0.1:9/jwks.json"}"#.to_owned(),
        r#"{"alg":"EdDSA","kid":"ed","x5u":"file:///etc/passwd"}"#.to_owned(),
        r#"{"alg":"EdDSA","kid":"ed","jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#
            .to_owned(),
    ] {
        add(&format!("another's key under {header}"), issuer.sign("mallory", Algorithm::EdDSA, &header, &claims));
    }
    for kid in ["rsa", "ec", "ed"] {
        for header in [format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#), r#"{"alg":"HS256"}"#.to_owned()] {
            add(&format!("HMAC with the public key {kid} under {header}"), by_secret(&header, &claims, &public(kid)));
        }
    }
    add("HMAC with an empty secret", by_secret(r#"{"alg":"HS256","kid":"shared"}"#, &claims, b""));
    add("HMAC with a guessed secret", by_secret(r#"{"alg":"HS256"}"#, &claims, b"secret"));

    add("signature stripped", format!("{message}."));
    add("signature and dot stripped", message.to_owned());
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bytes[10] ^= 1;
    add("signature altered", format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes)));
    add("signature cut", format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes[..32])));
    add("signature of zeros", format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 64])));
    let ec_zeros = format!("{}.{}", encode(r#"{"alg":"ES256","kid":"ec"}"#), encode(&claims));
    add("an ES256 signature of zeros", format!("{ec_zeros}.{}", URL_SAFE_NO_PAD.encode([0; 64])));
    add("claims altered", format!("{}.{}.{signature}", encode(ED_HEADER), encode(&with(json!({"roles": ["admin"]})))));
    add("header altered", header_of(r#"{"alg":"EdDSA","typ":"JWT","kid":"ed" }"#));
    add("four segments", format!("{right}.{signature}"));
    add("five segments, as if encrypted", format!("{right}.{signature}.{signature}"));
    add("padding", format!("{right}=="));
    add("an empty first segment", format!(".{right}"));

    for (name, changes) in [
        ("exp missing", json!({"exp": null})),
        ("exp past", json!({"exp": now_s() - 6})),
        ("exp a string", json!({"exp": (now_s() + 600).to_string()})),
        ("exp negative", json!({"exp": -1})),
        ("exp zero", json!({"exp": 0})),
        ("exp huge", json!({"exp": 9_000_000_000_000_000_000_u64})),
        ("exp infinite", json!({"exp": 1e300})),
        ("exp a boolean", json!({"exp": true})),
        ("exp a list", json!({"exp": [now_s() + 600]})),
        ("nbf future", json!({"nbf": now_s() + 60})),
        ("nbf a string", json!({"nbf": "0"})),
        ("iat missing", json!({"iat": null})),
        ("iat future", json!({"iat": now_s() + 60})),
        ("iat a string", json!({"iat": "now"})),
        ("lives longer than it may", json!({"exp": now_s() + 86_460})),
        ("issued too long ago for its exp", json!({"iat": now_s() - 86_460})),
        ("sub missing", json!({"sub": null})),
        ("sub empty", json!({"sub": ""})),
        ("sub a number", json!({"sub": 7})),
        ("sub a list", json!({"sub": ["ada@example.com"]})),
        ("sub too long", json!({"sub": "x".repeat(257)})),
        ("sub with a line end", json!({"sub": "ada\nroot"})),
        ("sub with an escape", json!({"sub": "ada\u{1b}[2J"})),
        ("sub with a NUL", json!({"sub": "ada\0"})),
        ("sub right to left", json!({"sub": "ada\u{202e}"})),
        ("iss missing", json!({"iss": null})),
        ("iss another", json!({"iss": "https://evil.test"})),
        ("iss in a list", json!({"iss": [ISSUER]})),
        ("iss a number", json!({"iss": 1})),
        ("aud missing", json!({"aud": null})),
        ("aud another", json!({"aud": "fleet.test.evil"})),
        ("aud empty", json!({"aud": ""})),
        ("aud an empty list", json!({"aud": []})),
        ("aud a list of others", json!({"aud": ["a", "b"]})),
        ("aud a list with a number", json!({"aud": [AUDIENCE, 1]})),
        ("aud an object", json!({"aud": {AUDIENCE: true}})),
        ("jti revoked", json!({"jti": "called-back"})),
        ("jti a number", json!({"jti": 1})),
        ("roles a string", json!({"roles": "admin"})),
        ("roles an object", json!({"roles": {"admin": true}})),
        ("33 roles", json!({"roles": vec!["read"; 33]})),
        ("10,000 roles", json!({"roles": vec!["r"; 10_000]})),
        ("permissions a string", json!({"permissions": "node:read"})),
        ("5 KiB", json!({"x": "x".repeat(5 * 1024)})),
    ] {
        add(name, ed(ED_HEADER, &with(changes)));
    }
    for (name, from, to) in [
        ("permissions null", r#""roles":["read"]"#, r#""roles":["admin"],"permissions":null"#),
        ("sub twice", r#""sub":"ada@example.com""#, r#""sub":"ada@example.com","sub":"root""#),
        ("roles twice", r#""roles":["read"]"#, r#""roles":["read"],"roles":["admin"]"#),
        ("exp twice", r#""exp":"#, r#""exp":9999999999,"exp":"#),
        ("an unknown claim twice", r#""sub":"#, r#""x":1,"x":2,"sub":"#),
    ] {
        let changed = claims.replacen(from, to, 1);
        assert_ne!(changed, claims, "{name}");
        add(name, ed(ED_HEADER, &changed));
    }
    for text in ["[]", "7", "null", "\"x\"", "", "{", "{}{}"] {
        add(&format!("claims {text:?}"), ed(ED_HEADER, text));
    }
    let mut attempts: Vec<Attempt> =
        all.into_iter().map(|(name, token)| (name, vec![format!("Bearer {token}")])).collect();
    let bearer = format!("Bearer {right}");
    for (name, headers) in [
        ("two headers", vec![bearer.clone(), bearer.clone()]),
        ("two headers, one empty", vec![String::new(), bearer.clone()]),
        ("a blank within the token", vec![bearer.replace('.', ". ")]),
        ("a second token", vec![format!("{bearer} {right}")]),
        ("a comma and a second token", vec![format!("{bearer}, {bearer}")]),
        ("another scheme", vec![format!("Token {right}")]),
        ("basic", vec![format!("Basic {}", encode("ada:secret"))]),
        ("no scheme", vec![right.clone()]),
        ("no token", vec!["Bearer ".to_owned()]),
        ("quotes", vec![format!("Bearer \"{right}\"")]),
    ] {
        attempts.push((name.to_owned(), headers));
    }
    attempts
}

#[test]
fn each_attempt_is_refused_and_leaves_an_entry_of_nobody() {
    let Some(issuer) = Issuer::new() else { return };
    let attempts = attempts(&issuer);
    let agent = start(&issuer);
    let mut entries = HashSet::new();
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
    }
    assert!(attempts.len() > 130, "{}", attempts.len());
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
    let mut right: Vec<(String, String)> = Vec::new();
    for (kid, algorithm, _) in KIDS {
        let claims = good().to_string();
        let header = |members: &str| format!(r#"{{"alg":"{algorithm:?}"{members}}}"#);
        for members in [format!(r#","kid":"{kid}""#), format!(r#","kid":"{kid}","typ":"at+jwt""#), String::new()] {
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
        ("fractions", json!({"exp": now_s() as f64 + 600.5, "iat": now_s() as f64 - 0.5})),
        ("the longest life", json!({"exp": now_s() + 86_400 - 10, "iat": now_s() - 10})),
        ("claims of others", json!({"azp": 7, "scope": "x", "email_verified": true, "nested": {"a": [1]}})),
        ("32 roles", json!({"roles": vec!["read"; 32]})),
        ("no jti", json!({"jti": null})),
        ("a subject in another script", json!({"sub": "ада"})),
        ("almost 4 KiB", json!({"x": "x".repeat(2_500)})),
    ] {
        right.push((name.to_owned(), ed(ED_HEADER, &with(changes))));
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
