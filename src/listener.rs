//! Where calls come in.

use std::io;
use std::net::{SocketAddr, TcpListener};

/// Binds the address. Connections queue from now on, before the agent serves them.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    // SO_REUSEADDR is set by std, so that a restart does not wait for old connections.
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
