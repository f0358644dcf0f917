//! A watched connection by itself, where the HTTP library has no timer that could come first.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, join, select};
use nodeaudit::audit::connection::{Body, Origin, PeerDeadlines, Watched};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use crate::support::strict_store;

/// Longer than anything here takes on the slowest machine.
const HANG: Duration = Duration::from_mins(1);

#[test]
fn a_peer_that_is_silent_after_its_answer_is_given_up_although_nobody_asks_again() {
    let folder = tempfile::tempdir().unwrap();
    let (_, writer, thread) = strict_store(folder.path());
    let deadlines = PeerDeadlines { head: HANG * 2, body: HANG * 2, idle: Duration::from_millis(50) };
    let ended = actix_web::rt::System::new().block_on(async {
        let (mut peer, stream) = duplex(1024);
        let origin = Origin::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut watched = Watched::new(stream, origin, deadlines, writer.clone(), b"");
        let watch = watched.watch();
        let request = b"GET /health HTTP/1.1\r\nHost: node\r\n\r\n";
        peer.write_all(request).await.unwrap();
        watched.read_exact(&mut vec![0; request.len()]).await.unwrap();
        watch.claim(Body::None);
        // The library reads on while the call is served, and is not woken by the answer: nothing waits for it.
        let answering = async {
            tokio::task::yield_now().await;
            watch.answered();
        };
        let mut more = [0; 1];
        // The hang comes first: when it is asked, the read is not, which would find out by that.
        let hang = pin!(tokio::time::sleep(HANG));
        let ended = pin!(join(watched.read(&mut more), answering));
        match select(hang, ended).await {
            Either::Left(_) => panic!("nobody has woken the reader"),
            Either::Right(((read, ()), _)) => read.unwrap_err().kind(),
        }
    });
    assert_eq!(ended, std::io::ErrorKind::TimedOut);
    drop(writer);
    thread.stop().unwrap();
}
