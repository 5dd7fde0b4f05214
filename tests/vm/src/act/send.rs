//! Acts that send.

use std::fs::File;
use std::io::{Error, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{checked, checked_len};

/// Bytes of one datagram, and of one frame behind its header.
const BLOCK_BYTES: usize = 1000;
/// A little more than the time between two records of a flow.
const FLOW_STEP: Duration = Duration::from_millis(1100);
/// The loopback interface is the first of every network namespace.
const LOOPBACK: i32 = 1;
/// `ETH_P_IP` of `include/uapi/linux/if_ether.h`.
const ETHERTYPE: u16 = 0x0800;

/// A listener that reads whatever comes, to its end.
struct Sink {
    address: SocketAddr,
    thread: JoinHandle<Result<()>>,
}

impl Sink {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        });
        Ok(Self { address, thread })
    }

    fn end(self, stream: TcpStream) -> Result<()> {
        drop(stream);
        self.thread.join().map_err(|_| Error::other("the sink died"))?
    }
}

/// Writes to a connection.
pub(super) fn tcp(bytes: usize) -> Result<()> {
    let sink = Sink::start()?;
    let mut stream = TcpStream::connect(sink.address)?;
    stream.write_all(&vec![b'x'; bytes])?;
    sink.end(stream)
}

/// Moves a file into a connection.
pub(super) fn sendfile(path: &str, bytes: usize) -> Result<()> {
    let sink = Sink::start()?;
    let (file, stream) = (File::open(path)?, TcpStream::connect(sink.address)?);
    let mut left = bytes;
    while left > 0 {
        let (from, to) = (file.as_raw_fd(), stream.as_raw_fd());
        // SAFETY: a plain system call on two open files.
        let len = checked_len(unsafe { libc::sendfile(to, from, std::ptr::null_mut(), left) })?;
        if len == 0 {
            return Err(Error::other("the file is shorter"));
        }
        left -= len;
    }
    sink.end(stream)
}

/// Sends datagrams on a socket without a fixed peer.
pub(super) fn udp(bytes: usize, address: &str) -> Result<()> {
    let (sink, socket) = (UdpSocket::bind((address, 0))?, UdpSocket::bind((address, 0))?);
    for _ in 0..bytes / BLOCK_BYTES {
        socket.send_to(&[b'x'; BLOCK_BYTES], sink.local_addr()?)?;
    }
    Ok(())
}

/// Sends frames on a packet socket. What a flow has sent is told once a second, so the last frame
/// comes later: from 6.3 on nothing tells that such a socket is closed.
pub(super) fn frames(bytes: usize) -> Result<()> {
    let header = [0u8; 12].into_iter().chain(ETHERTYPE.to_be_bytes());
    let frame: Vec<u8> = header.chain([0; BLOCK_BYTES - 14]).collect();
    // SAFETY: plain integers, for which zero is a value.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = u16::try_from(libc::AF_PACKET).map_err(Error::other)?;
    to.sll_ifindex = LOOPBACK;
    to.sll_halen = 6;
    let len = u32::try_from(size_of::<libc::sockaddr_ll>()).map_err(Error::other)?;
    // SAFETY: plain system calls; frame and address live through them, with the lengths they have.
    unsafe {
        let socket = checked(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0))?;
        for left in (0..bytes / BLOCK_BYTES).rev() {
            if left == 0 {
                std::thread::sleep(FLOW_STEP);
            }
            let at = (&raw const to).cast();
            checked_len(libc::sendto(socket, frame.as_ptr().cast(), frame.len(), 0, at, len))?;
        }
        checked(libc::close(socket))?;
    }
    Ok(())
}
