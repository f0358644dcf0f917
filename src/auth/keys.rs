//! All keys whose tokens are accepted, found by what a token's header says.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use jsonwebtoken::Algorithm;

use super::form;
use super::guarded_file::{GuardedFile, entries_of};
use super::jwks::{self, Contents};
use super::key::{SigningKey, VerifyingKey, kid_of};
use super::key_error::{KeyError, KeyFormatError};
use super::token::TokenError;

/// So many keys at most.
const MAX_KEYS: usize = 64;

/// What the names of key files in a folder end with.
const KEY_ENDINGS: [&str; 3] = ["pem", "json", "jwks"];

/// The keys.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<VerifyingKey>);

impl Keys {
    /// This one key.
    pub fn only(key: &VerifyingKey) -> Self {
        Self(vec![key.clone()])
    }

    /// These keys, whose names nobody has compared.
    pub fn of(keys: Vec<VerifyingKey>) -> Self {
        Self(keys)
    }

    /// `own`, and the keys in the files and folders at `paths`: a public key in PEM whose `kid` is the file's name without what
    /// follows the last dot, or JSON Web Keys. Of a folder those files are taken that are named as keys are.
    ///
    /// No two keys have one name, and one without a name is the only one for its algorithm: else no token could say which is meant.
    pub fn load(own: Option<&SigningKey>, paths: &[PathBuf]) -> Result<Self, KeyError> {
        let mut keys = Self(own.map(|key| key.verifying.clone()).into_iter().collect());
        for place in paths {
            let files = if place.is_dir() { key_files(place)? } else { vec![place.clone()] };
            for path in files {
                for key in load(&path)? {
                    keys.add(key, &path)?;
                }
            }
        }
        match paths.first() {
            Some(path) if keys.0.is_empty() => Err(KeyError::NoKeys { path: path.clone() }),
            _ if keys.0.len() > MAX_KEYS => Err(KeyError::TooMany { max: MAX_KEYS }),
            _ => Ok(keys),
        }
    }

    fn add(&mut self, key: VerifyingKey, path: &Path) -> Result<(), KeyError> {
        for other in &self.0 {
            let path = path.to_owned();
            match (other.kid(), key.kid()) {
                (Some(kid), Some(same)) if kid == same => return Err(KeyError::SameKid { kid: kid.to_owned(), path }),
                (None, _) | (_, None) if other.algorithm() == key.algorithm() => {
                    return Err(KeyError::Nameless { algorithm: key.algorithm().registered(), path });
                }
                _ => {}
            }
        }
        self.0.push(key);
        Ok(())
    }

    /// The keys in the text of a file: one in PEM, which is given this name, or JSON Web Keys, which have their own.
    pub fn parse(text: &[u8], kid: Option<String>) -> Result<Vec<VerifyingKey>, KeyFormatError> {
        Ok(read(text, kid)?.keys)
    }

    /// The key that a token is to be verified with: the one that it names, else the only one for its algorithm. Where there are several,
    /// none: each that is tried would be work that a stranger gives. A key verifies tokens of its own algorithm alone.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&VerifyingKey, TokenError> {
        let is_for = |key: &&VerifyingKey| key.algorithm().registered() == algorithm;
        if let Some(kid) = kid {
            let named = self.0.iter().find(|key| key.kid() == Some(kid)).ok_or(TokenError::UnknownKey)?;
            return Some(named).filter(is_for).ok_or(TokenError::Algorithm);
        }
        let mut fitting = self.0.iter().filter(is_for);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(TokenError::NoKeyNamed),
            (None, _) => Err(TokenError::Algorithm),
        }
    }
}

/// The files of a folder that are named as keys are; others, such as one that was put out of force by another ending or an editor's copy,
/// are named in the log.
fn key_files(folder: &Path) -> Result<Vec<PathBuf>, KeyError> {
    let is_key = |path: &PathBuf| {
        let ending = path.extension().and_then(OsStr::to_str);
        ending.is_some_and(|ending| KEY_ENDINGS.contains(&ending)) && !path.is_dir()
    };
    let (keys, others): (Vec<_>, Vec<_>) = entries_of(folder)?.into_iter().partition(is_key);
    for path in others {
        log::warn!("{} is ignored: of a folder of keys, files *.pem, *.json and *.jwks are read", path.display());
    }
    Ok(keys)
}

fn load(path: &Path) -> Result<Vec<VerifyingKey>, KeyError> {
    let file = GuardedFile::open(path)?;
    file.check_public()?;
    let text = file.read(SigningKey::MAX_FILE_BYTES)?;
    let contents = read(&text, kid_of(path)).map_err(|error| error.in_file(path))?;
    if contents.holds_secret {
        file.check_secret()?;
    }
    Ok(contents.keys)
}

/// What is JSON is never read as PEM, which a string in it can hold.
fn read(text: &[u8], kid: Option<String>) -> Result<Contents, KeyFormatError> {
    let text = form::without_mark(text);
    if form::is_json(text) {
        return jwks::read(text);
    }
    Ok(Contents { keys: vec![VerifyingKey::from_pem(text)?.named(kid)], holds_secret: false })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::auth::KeyAlgorithm;

    const ED: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    /// RFC 8037, appendix A.2, without a name.
    const JWK: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
            Self(folder)
        }

        fn add(&self, name: &str, text: &str, mode: u32) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }

        fn load(&self) -> Result<Keys, KeyError> {
            Keys::load(None, &[self.0.path().to_owned()])
        }
    }

    fn secret() -> SigningKey {
        SigningKey::from_secret(&[b'k'; 32]).unwrap().named(Some("own".to_owned()))
    }

    #[test]
    fn a_key_is_put_out_of_force_by_another_ending() {
        let files = Files::new();
        files.add("in-force.pem", ED, 0o644);
        for name in [
            "fleet.pem.disabled",
            "fleet.pem~",
            "fleet.pem.bak",
            "fleet",
            "pem",
            "fleet.PEM",
            "fleet.pub",
            ".fleet.pem",
        ] {
            files.add(name, ED, 0o644);
        }
        fs::create_dir(files.0.path().join("folder.pem")).unwrap();
        let keys = files.load().unwrap();
        assert_eq!(keys.0.iter().map(VerifyingKey::kid).collect::<Vec<_>>(), [Some("in-force")]);
        let fleet = Keys::load(None, &[files.0.path().join("fleet.pub")]).unwrap();
        assert_eq!(fleet.0[0].kid(), Some("fleet"), "a file that is named itself");
        fs::remove_file(files.0.path().join("in-force.pem")).unwrap();
        assert!(matches!(files.load(), Err(KeyError::NoKeys { .. })));
    }

    #[test]
    fn json_is_never_read_as_pem() {
        let files = Files::new();
        let pem = ED.replace('\n', "\\n");
        for text in [
            format!(r#"{{"keys":[],"note":"{pem}"}}"#),
            format!(r#"["{pem}"]"#),
            format!(r#"  "{pem}""#),
            format!("\u{feff}{{\"x\":\"{pem}\"}}"),
            format!("{{\"keys\":[]}}\n{ED}"),
        ] {
            files.add("set.json", &text, 0o644);
            let refused = files.load();
            let is_json = matches!(
                refused,
                Err(KeyError::Unusable { source: KeyFormatError::Json | KeyFormatError::NoneUsable, .. })
            );
            assert!(is_json, "{text}: {refused:?}");
        }
        files.add("set.json", &format!("\u{feff}{JWK}"), 0o644);
        assert_eq!(files.load().unwrap().0.len(), 1, "a mark before it is no part of it");
    }

    #[test]
    fn a_key_without_a_name_is_the_only_one_for_its_algorithm() {
        let files = Files::new();
        files.add("a.json", JWK, 0o644);
        let keys = files.load().unwrap();
        assert_eq!(keys.find(None, Algorithm::EdDSA).unwrap().kid(), None);
        assert!(matches!(keys.find(Some(""), Algorithm::EdDSA), Err(TokenError::UnknownKey)), "it has no name at all");
        files.add("b.pem", ED, 0o644);
        let refused = files.load();
        let named = |path: &Path| path.ends_with("b.pem");
        assert!(matches!(&refused, Err(KeyError::Nameless { path, .. }) if named(path)), "{refused:?}");
        fs::rename(files.0.path().join("b.pem"), files.0.path().join("0.pem")).unwrap();
        assert!(matches!(files.load(), Err(KeyError::Nameless { .. })), "whichever comes first");
        fs::remove_file(files.0.path().join("0.pem")).unwrap();
        files.add("a.json", &format!(r#"{{"keys":[{JWK},{JWK}]}}"#), 0o644);
        assert!(matches!(files.load(), Err(KeyError::Nameless { .. })), "in one set");
        let with_secret = Keys::load(Some(&secret()), &[files.add("a.json", JWK, 0o644)]).unwrap();
        assert_eq!(with_secret.0.len(), 2, "another algorithm's key is not meant by the same token");
    }

    #[test]
    fn a_folders_keys_are_named_after_their_files_and_hidden_files_are_none() {
        let files = Files::new();
        files.add("fleet.2026.pem", ED, 0o644);
        files.add(".fleet.pem.swp", "half a key", 0o644);
        fs::create_dir(files.0.path().join("old")).unwrap();
        let keys = files.load().unwrap();
        assert_eq!(keys.find(Some("fleet.2026"), Algorithm::EdDSA).unwrap().algorithm(), KeyAlgorithm::EdDsa);
        assert!(matches!(keys.find(Some("fleet"), Algorithm::EdDSA), Err(TokenError::UnknownKey)));
        assert!(matches!(keys.find(Some("fleet.2026"), Algorithm::ES256), Err(TokenError::Algorithm)));
        assert!(matches!(keys.find(Some("fleet.2026"), Algorithm::HS256), Err(TokenError::Algorithm)));
    }

    #[test]
    fn a_token_that_names_no_key_means_the_only_one_for_its_algorithm() {
        let files = Files::new();
        let one = files.add("one.pem", ED, 0o644);
        let own = secret();
        let keys = Keys::load(Some(&own), std::slice::from_ref(&one)).unwrap();
        assert_eq!(keys.find(None, Algorithm::EdDSA).unwrap().kid(), Some("one"));
        assert_eq!(keys.find(None, Algorithm::HS256).unwrap().kid(), Some("own"));
        assert!(matches!(keys.find(None, Algorithm::RS256), Err(TokenError::Algorithm)));
        let two = files.add("two.pem", ED, 0o644);
        let keys = Keys::load(None, &[one, two]).unwrap();
        assert!(matches!(keys.find(None, Algorithm::EdDSA), Err(TokenError::NoKeyNamed)));
    }

    #[test]
    fn one_name_for_two_keys_is_refused() {
        let files = Files::new();
        files.add("own.pem", ED, 0o644);
        let same = Keys::load(Some(&secret()), &[files.0.path().to_owned()]);
        assert!(matches!(same, Err(KeyError::SameKid { kid, .. }) if kid == "own"));
    }

    #[test]
    fn a_file_that_is_no_public_key_is_refused() {
        let files = Files::new();
        assert!(matches!(files.load(), Err(KeyError::NoKeys { .. })), "an empty folder");
        let ed = ED.replace("PUBLIC", "PRIVATE");
        for (text, mode) in
            [(ED, 0o666), (ed.as_str(), 0o600), ("a shared secret of more than 32 bytes", 0o600), ("", 0o600)]
        {
            let path = files.add("key.pem", text, mode);
            assert!(files.load().is_err(), "{text:?} {mode:o}");
            fs::remove_file(path).unwrap();
        }
        let set = r#"{"keys":[{"kty":"oct","kid":"s","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0i"}]}"#;
        files.add("set.json", set, 0o644);
        assert!(matches!(files.load(), Err(KeyError::File(_))), "a secret that others can read");
        let unused = format!(r#"{{"keys":[{JWK},{{"kty":"oct","alg":"A128KW","k":"AQAB"}}]}}"#);
        files.add("set.json", &unused, 0o644);
        assert!(matches!(files.load(), Err(KeyError::File(_))), "a secret for something else is one all the same");
        files.add("set.json", &unused, 0o600);
        assert_eq!(files.load().unwrap().0.len(), 1);
        files.add("set.json", set, 0o600);
        assert_eq!(files.load().unwrap().find(Some("s"), Algorithm::HS256).unwrap().algorithm(), KeyAlgorithm::Hs256);
    }
}
