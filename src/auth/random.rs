//! Random bytes from the kernel: for keys, IDs of tokens and names of files.

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::hexadecimal;

/// The kernel gave none.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct RandomError;

/// `N` random bytes from the kernel.
pub(super) fn random_bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, RandomError> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(bytes.as_mut()).map_err(|_| RandomError)?;
    Ok(bytes)
}

/// `N` random bytes in hexadecimal.
pub(super) fn random_text<const N: usize>() -> Result<Zeroizing<String>, RandomError> {
    Ok(Zeroizing::new(hexadecimal::encode(random_bytes::<N>()?.as_ref())))
}
