//! All keys whose tokens are accepted, found by what a token's header says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jsonwebtoken::Algorithm;

use super::guarded_file::{GuardedFile, files_in};
use super::key::{KeyAlgorithm, KeyError, KeyFormatError, SigningKey, VerifyingKey, kid_of};
use super::token::TokenError;
use super::{jwks, pem};

/// So many keys at most.
const MAX_KEYS: usize = 64;

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
    /// follows the last dot, or JSON Web Keys.
    pub fn load(own: Option<&SigningKey>, paths: &[PathBuf]) -> Result<Self, KeyError> {
        let mut keys = Self(own.map(|key| key.verifying.clone()).into_iter().collect());
        let mut kids: BTreeSet<String> = keys.0.iter().filter_map(|key| key.kid().map(str::to_owned)).collect();
        for place in paths {
            let files = if place.is_dir() { files_in(place)? } else { vec![place.clone()] };
            for path in files {
                for key in load(&path)? {
                    let is_new = key.kid().is_none_or(|kid| kids.insert(kid.to_owned()));
                    if !is_new {
                        return Err(KeyError::SameKid { kid: key.kid().unwrap_or_default().to_owned(), path });
                    }
                    keys.0.push(key);
                }
            }
        }
        match paths.first() {
            Some(path) if keys.0.is_empty() => Err(KeyError::NoKeys { path: path.clone() }),
            _ if keys.0.len() > MAX_KEYS => Err(KeyError::TooMany { max: MAX_KEYS }),
            _ => Ok(keys),
        }
    }

    /// The keys in the text of a file: one in PEM, which is given this name, or JSON Web Keys, which have their own.
    pub fn parse(text: &[u8], kid: Option<String>) -> Result<Vec<VerifyingKey>, KeyFormatError> {
        if pem::is_pem(text) || !jwks::is_json(text) {
            return Ok(vec![VerifyingKey::from_pem(text)?.named(kid)]);
        }
        jwks::keys(text)
    }

    /// The key that a token is to be verified with: the one that it names, else the only one for its algorithm. A key verifies
    /// tokens of its own algorithm alone.
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

fn load(path: &Path) -> Result<Vec<VerifyingKey>, KeyError> {
    let file = GuardedFile::open(path)?;
    file.check_public()?;
    let text = file.read(SigningKey::MAX_FILE_BYTES)?;
    let keys = Keys::parse(&text, kid_of(path)).map_err(|error| error.in_file(path))?;
    if keys.iter().any(|key| key.algorithm() == KeyAlgorithm::Hs256) {
        file.check_secret()?;
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ED: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

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
        files.add("set.json", set, 0o600);
        assert_eq!(files.load().unwrap().find(Some("s"), Algorithm::HS256).unwrap().algorithm(), KeyAlgorithm::Hs256);
    }
}
