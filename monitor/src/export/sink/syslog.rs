//! Syslog over UDP, TCP or TLS.
//!
//! Syslog has no replies. Over a stream an alert is believed to have arrived when the connection
//! was still sound [`SETTLE`] after it was written; when it breaks, all that had not settled is
//! sent again, with the same ids. At the end the receiver is made to close first, which it does
//! after it has read everything. Over UDP nothing can be known.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::{Deliver, DeliverError, SinkError, tls};
use crate::alert::Alert;
use crate::export::config::{SyslogConfig, SyslogTransport};
use crate::export::encode::{SyslogHeader, octet_counted, syslog};

/// Time after which a line that was written to a sound connection is believed to have arrived.
/// A receiver that dies takes its socket buffer with it; one second is far more than a receiver
/// that is alive leaves lines unread.
pub const SETTLE: Duration = Duration::from_secs(1);

pub(super) struct SyslogSink {
    config: SyslogConfig,
    header: SyslogHeader,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    link: Option<Link>,
}

enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl SyslogSink {
    pub(super) fn new(sink: &str, config: &SyslogConfig) -> Result<Self, SinkError> {
        let tls = match config.transport {
            SyslogTransport::Udp | SyslogTransport::Tcp => None,
            SyslogTransport::Tls => {
                let host = config.address.rsplit_once(':').map_or("", |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let name = config.server_name.clone().unwrap_or_else(|| host.to_owned());
                let server = ServerName::try_from(name.clone())
                    .map_err(|_| SinkError::ServerName { sink: sink.to_owned(), name })?;
                Some((tls::client(sink, config.ca_file.as_deref())?, server))
            }
        };
        let header = SyslogHeader {
            facility: config.facility,
            hostname: config.hostname.clone(),
            pid: std::process::id(),
        };
        Ok(Self { config: config.clone(), header, tls, link: None })
    }

    fn connect(&self) -> io::Result<Link> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.config.address.to_socket_addrs()? {
            if self.config.transport == SyslogTransport::Udp {
                let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(local)?;
                socket.connect(address)?;
                return Ok(Link::Udp(socket));
            }
            match TcpStream::connect_timeout(&address, self.config.timeout) {
                Ok(stream) => return self.greet(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn greet(&self, mut stream: TcpStream) -> io::Result<Link> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.config.timeout))?;
        stream.set_read_timeout(Some(self.config.timeout))?;
        let Some((config, name)) = &self.tls else { return Ok(Link::Tcp(stream)) };
        let mut connection =
            ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Link::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    fn send(&mut self, alert: &Alert) -> io::Result<()> {
        let line = syslog(alert, &self.header);
        if self.link.is_none() {
            self.link = Some(self.connect()?);
        }
        match &mut self.link {
            None => Err(io::ErrorKind::NotConnected.into()),
            Some(Link::Udp(socket)) => socket.send(line.as_bytes()).map(drop),
            Some(Link::Tcp(stream)) => stream.write_all(&octet_counted(&line)),
            Some(Link::Tls(stream)) => {
                stream.write_all(&octet_counted(&line))?;
                stream.flush()
            }
        }
    }
}

impl Link {
    /// Reads what is there without waiting: receivers say nothing, so that only the end, an error
    /// or TLS's own words can come.
    fn check(&mut self) -> io::Result<()> {
        let (socket, result) = match self {
            Self::Udp(_) => return Ok(()),
            Self::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                let result = stream.read(&mut [0; 256]);
                (&*stream, result)
            }
            Self::Tls(stream) => {
                stream.sock.set_nonblocking(true)?;
                let result = stream.read(&mut [0; 256]);
                (&stream.sock, result)
            }
        };
        socket.set_nonblocking(false)?;
        match result {
            Ok(0) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by the receiver"))
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says that nothing more will come, and waits for the receiver to say the same.
    fn close(self, deadline: Instant) -> io::Result<()> {
        let mut stream = match self {
            Self::Udp(_) => return Ok(()),
            Self::Tcp(stream) => stream,
            Self::Tls(mut stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                stream.sock
            }
        };
        stream.shutdown(Shutdown::Write)?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left))?;
            if stream.read(&mut [0; 256])? == 0 {
                return Ok(());
            }
        }
    }
}

impl Deliver for SyslogSink {
    fn deliver(&mut self, alert: &Alert) -> Result<(), DeliverError> {
        self.send(alert).map_err(|error| {
            self.link = None;
            DeliverError::retry(&error)
        })
    }

    fn settle(&self) -> Duration {
        match self.config.transport {
            SyslogTransport::Udp => Duration::ZERO,
            SyslogTransport::Tcp | SyslogTransport::Tls => SETTLE,
        }
    }

    fn check(&mut self) -> Result<(), DeliverError> {
        let Some(link) = &mut self.link else {
            return Err(DeliverError::retry(&"not connected"));
        };
        link.check().map_err(|error| {
            self.link = None;
            DeliverError::retry(&error)
        })
    }

    fn close(&mut self, deadline: Instant) -> Result<(), DeliverError> {
        self.link.take().map_or(Ok(()), |link| {
            link.close(deadline).map_err(|error| DeliverError::retry(&error))
        })
    }
}
