//! Tokens, and headers with tokens, that must be refused.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{ED_HEADER, by_secret, encode, good, with};
use crate::support::{AUDIENCE, ISSUER, Issuer, now_s};

/// What is tried: a name, and the requests' `Authorization` headers.
pub(super) type Attempt = (String, Vec<String>);

/// Someone who bends what `issuer` signs, and signs himself.
pub(super) struct Forger<'a> {
    issuer: &'a Issuer,
    /// Claims that are accepted.
    claims: String,
    /// A token that is.
    right: String,
    tokens: Vec<(String, String)>,
}

impl<'a> Forger<'a> {
    pub(super) fn new(issuer: &'a Issuer) -> Self {
        let claims = good().to_string();
        let right = issuer.sign("ed", Algorithm::EdDSA, ED_HEADER, &claims);
        Self { issuer, claims, right, tokens: Vec::new() }
    }

    /// All of it.
    pub(super) fn attempts(mut self) -> Vec<Attempt> {
        self.add_headers();
        self.add_keys();
        self.add_signatures();
        self.add_claims();
        let headers = self.authorization();
        let tokens = self.tokens.into_iter().map(|(name, token)| (name, vec![format!("Bearer {token}")]));
        tokens.chain(headers).collect()
    }

    fn add(&mut self, name: &str, token: String) {
        self.tokens.push((name.to_owned(), token));
    }

    fn ed(&self, header: &str, claims: &str) -> String {
        self.issuer.sign("ed", Algorithm::EdDSA, header, claims)
    }

    /// Rightly signed, under a header that must not be.
    fn add_headers(&mut self) {
        for alg in ["none", "None", "NONE", "nOnE", ""] {
            let header = json!({"alg": alg, "typ": "JWT"}).to_string();
            self.add(
                &format!("alg {alg:?} without signature"),
                format!("{}.{}.", encode(&header), encode(&self.claims)),
            );
            self.add(&format!("alg {alg:?} with a signature"), self.ed(&header, &self.claims));
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
            ("crit null", r#"{"alg":"EdDSA","kid":"ed","crit":null}"#),
            ("kid null", r#"{"alg":"EdDSA","kid":null}"#),
            ("typ null", r#"{"alg":"EdDSA","kid":"ed","typ":null}"#),
            ("typ in a list", r#"{"alg":"EdDSA","kid":"ed","typ":["JWT"]}"#),
            ("typ of a logout token, in full", r#"{"alg":"EdDSA","kid":"ed","typ":"application/logout+jwt"}"#),
            ("typ of another tree", r#"{"alg":"EdDSA","kid":"ed","typ":"text/at+jwt"}"#),
            ("an unknown member twice", r#"{"alg":"EdDSA","kid":"ed","x":1,"x":1}"#),
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
            self.add(name, self.ed(header, &self.claims));
        }
    }

    /// Signed with a key that the node has not got, or not for that.
    fn add_keys(&mut self) {
        let public = |kid: &str| fs::read(self.issuer.public_keys().join(format!("{kid}.pem"))).unwrap();
        // The private half is the attacker's; the header says where its public half would be.
        self.issuer.make("mallory", &["-algorithm", "ed25519"]);
        fs::remove_file(self.issuer.public_keys().join("mallory.pem")).unwrap();
        for header in [
            ED_HEADER.to_owned(),
            r#"{"alg":"EdDSA","kid":"mallory"}"#.to_owned(),
            r#"{"alg":"EdDSA"}"#.to_owned(),
            r#"{"alg":"EdDSA","kid":"ed","jku":"http://127.0.0.1:9/jwks.json"}"#.to_owned(),
            r#"{"alg":"EdDSA","kid":"ed","x5u":"file:///etc/passwd"}"#.to_owned(),
            r#"{"alg":"EdDSA","kid":"ed","jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#
                .to_owned(),
        ] {
            self.add(&format!("another's key under {header}"), self.issuer.sign("mallory", Algorithm::EdDSA, &header, &self.claims));
        }
        // Its public half is still in the folder, under a name that puts it out of force.
        self.issuer.make("retired", &["-algorithm", "ed25519"]);
        let of_retired = |ending: &str| self.issuer.public_keys().join(format!("retired.{ending}"));
        fs::copy(of_retired("pem"), of_retired("pem~")).unwrap();
        fs::rename(of_retired("pem"), of_retired("pem.disabled")).unwrap();
        for kid in ["retired", "retired.pem", "retired.pem~", "retired.pem.disabled"] {
            let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#);
            let token = self.issuer.sign("retired", Algorithm::EdDSA, &header, &self.claims);
            self.add(&format!("a key out of force as {kid}"), token);
        }
        for kid in ["rsa", "ec", "ed"] {
            for header in [format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#), r#"{"alg":"HS256"}"#.to_owned()] {
                self.add(
                    &format!("HMAC with the public key {kid} under {header}"),
                    by_secret(&header, &self.claims, &public(kid)),
                );
            }
        }
        self.add("HMAC with an empty secret", by_secret(r#"{"alg":"HS256","kid":"shared"}"#, &self.claims, b""));
        self.add("HMAC with a guessed secret", by_secret(r#"{"alg":"HS256"}"#, &self.claims, b"secret"));
    }

    /// The signature is none, another's, or under something else.
    fn add_signatures(&mut self) {
        let right = self.right.clone();
        let (message, signature) = right.rsplit_once('.').unwrap();
        self.add("signature stripped", format!("{message}."));
        self.add("signature and dot stripped", message.to_owned());
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[10] ^= 1;
        self.add("signature altered", format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes)));
        self.add("signature cut", format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes[..32])));
        self.add("signature of zeros", format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 64])));
        let ec_zeros = format!("{}.{}", encode(r#"{"alg":"ES256","kid":"ec"}"#), encode(&self.claims));
        self.add("an ES256 signature of zeros", format!("{ec_zeros}.{}", URL_SAFE_NO_PAD.encode([0; 64])));
        self.add(
            "claims altered",
            format!("{}.{}.{signature}", encode(ED_HEADER), encode(&with(&json!({"roles": ["admin"]})))),
        );
        let header = encode(r#"{"alg":"EdDSA","typ":"JWT","kid":"ed" }"#);
        self.add("header altered", format!("{header}.{}.{signature}", encode(&self.claims)));
        self.add("four segments", format!("{right}.{signature}"));
        self.add("five segments, as if encrypted", format!("{right}.{signature}.{signature}"));
        self.add("padding", format!("{right}=="));
        self.add("an empty first segment", format!(".{right}"));
    }

    /// Rightly signed, and says what must not be.
    fn add_claims(&mut self) {
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
            ("sub with a mark of direction", json!({"sub": "ada\u{200f}"})),
            ("sub with an Arabic mark of direction", json!({"sub": "ada\u{61c}"})),
            ("sub with something that nobody sees", json!({"sub": "ada\u{200b}"})),
            ("sub with a byte order mark", json!({"sub": "\u{feff}ada"})),
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
            ("jti revoked, behind a mark", json!({"jti": "first"})),
            ("jti revoked, like a comment", json!({"jti": "#1"})),
            ("jti revoked, with blanks", json!({"jti": "  blanks "})),
            ("jti missing, so never to be called back", json!({"jti": null})),
            ("jti a number", json!({"jti": 1})),
            ("roles a string", json!({"roles": "admin"})),
            ("roles an object", json!({"roles": {"admin": true}})),
            ("33 roles", json!({"roles": vec!["read"; 33]})),
            ("10,000 roles", json!({"roles": vec!["r"; 10_000]})),
            ("permissions a string", json!({"permissions": "node:read"})),
            ("5 KiB", json!({"x": "x".repeat(5 * 1024)})),
        ] {
            self.add(name, self.ed(ED_HEADER, &with(&changes)));
        }
        for (name, from, to) in [
            ("permissions null", r#""roles":["read"]"#, r#""roles":["admin"],"permissions":null"#),
            ("sub twice", r#""sub":"ada@example.com""#, r#""sub":"ada@example.com","sub":"root""#),
            ("roles twice", r#""roles":["read"]"#, r#""roles":["read"],"roles":["admin"]"#),
            ("exp twice", r#""exp":"#, r#""exp":9999999999,"exp":"#),
            ("an unknown claim twice", r#""sub":"#, r#""x":1,"x":2,"sub":"#),
        ] {
            let changed = self.claims.replacen(from, to, 1);
            assert_ne!(changed, self.claims, "{name}");
            self.add(name, self.ed(ED_HEADER, &changed));
        }
        for text in ["[]", "7", "null", "\"x\"", "", "{", "{}{}"] {
            self.add(&format!("claims {text:?}"), self.ed(ED_HEADER, text));
        }
    }

    /// The right token, put into the header in a way that must not be.
    fn authorization(&self) -> Vec<Attempt> {
        let right = &self.right;
        let bearer = format!("Bearer {right}");
        let headers = [
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
        ];
        headers.map(|(name, values)| (name.to_owned(), values)).into()
    }
}
