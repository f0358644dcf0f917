//! Claims whose signature has been found right, so that the next call with the same token need not ask again.
//!
//! An asymmetric signature costs more than all the rest of a small call. Only what is signed can get in, so a flood of forged tokens
//! evicts nothing. Times, revocations and all other rules are looked at for every call. The cache goes with its keys.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{SHA256, digest};

/// Tokens in a generation.
const GENERATION: usize = 256;

/// A token as it is remembered: its SHA-256, so that no token lies about in memory.
pub(super) type TokenDigest = [u8; 32];

/// Two generations: what is asked for again moves into the young one, and the old one is forgotten when that is full.
#[derive(Debug)]
pub(super) struct Cache<T>(Mutex<Generations<T>>);

#[derive(Debug)]
struct Generations<T> {
    young: HashMap<TokenDigest, Arc<T>, BuildHasherDefault<Beginning>>,
    old: HashMap<TokenDigest, Arc<T>, BuildHasherDefault<Beginning>>,
}

/// The beginning of a digest is as good as a hash of it: to make many that begin alike costs as many times 2^57 attempts, and each of
/// those tokens would have to be signed.
#[derive(Clone, Copy, Debug, Default)]
struct Beginning(u64);

impl Hasher for Beginning {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk().map_or(self.0, |first| u64::from_ne_bytes(*first));
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<T> Cache<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Generations { young: HashMap::default(), old: HashMap::default() }))
    }

    /// The SHA-256 of a token.
    pub(super) fn digest_of(token: &str) -> TokenDigest {
        digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("a SHA-256 has 32 bytes")
    }

    pub(super) fn get(&self, token: &TokenDigest) -> Option<Arc<T>> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = generations.young.get(token) {
            return Some(Arc::clone(found));
        }
        let found = generations.old.remove(token)?;
        generations.insert(*token, Arc::clone(&found));
        Some(found)
    }

    pub(super) fn insert(&self, token: TokenDigest, value: Arc<T>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token, value);
    }
}

impl<T> Generations<T> {
    fn insert(&mut self, token: TokenDigest, value: Arc<T>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: usize) -> TokenDigest {
        Cache::<usize>::digest_of(&number.to_string())
    }

    #[test]
    fn it_holds_two_generations_at_most_and_what_is_asked_for_stays() {
        let cache = Cache::new();
        for number in 0..10 * GENERATION {
            cache.insert(token(number), Arc::new(number));
            assert_eq!(cache.get(&token(0)).as_deref(), Some(&0), "asked for all the time");
        }
        let held = (0..10 * GENERATION).filter(|&number| cache.get(&token(number)).is_some()).count();
        assert!((GENERATION..=2 * GENERATION).contains(&held), "{held}");
        assert!(cache.get(&token(1)).is_none());
    }
}
