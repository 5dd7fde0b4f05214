//! Where traffic on loopback goes.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A TCP server on loopback that counts what it gets.
pub(crate) struct Sink {
    port: u16,
    received: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl Sink {
    /// Listens on a free port for one connection.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let received = Arc::new(AtomicU64::new(0));
        let done = Arc::new(AtomicBool::new(false));
        std::thread::spawn({
            let (received, done) = (Arc::clone(&received), Arc::clone(&done));
            move || {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut buffer = vec![0; 65536];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    received.fetch_add(read as u64, Ordering::Relaxed);
                }
                done.store(true, Ordering::Release);
            }
        });
        Self { port, received, done }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Bytes it got, once the connection has ended.
    pub(crate) fn received(&self) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.done.load(Ordering::Acquire) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.received.load(Ordering::Relaxed)
    }
}
