//! What the first bytes of a flow say: mining handshakes, TLS hello with its server name, HTTP,
//! SSH. Total over any bytes, and bounded by the length of the payload.

/// A protocol recognised in a first payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppProto {
    /// A mining handshake: Stratum v1, Ethereum proxy, `CryptoNote`.
    Stratum,
    /// A TLS hello.
    Tls,
    /// An HTTP request.
    Http,
    /// An SSH banner.
    Ssh,
    /// A DNS question over TCP or UDP.
    Dns,
}

impl AppProto {
    /// The word used in rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stratum => "stratum",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::Dns => "dns",
        }
    }
}

/// What a payload says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// The protocol, where recognised.
    pub(super) proto: Option<AppProto>,
    /// Server name of a TLS hello, lower case.
    pub(super) sni: Option<String>,
}

impl Reading {
    /// Whether further bytes would not say more.
    pub(super) fn is_done(&self) -> bool {
        match self.proto {
            None => false,
            Some(AppProto::Tls) => self.sni.is_some(),
            Some(_) => true,
        }
    }
}

/// Reads the first outbound bytes of a flow to port `port`.
pub(super) fn read(payload: &[u8], port: u16) -> Reading {
    let mut reading = Reading::default();
    reading.proto = if is_tls_hello(payload) {
        reading.sni = sni(payload);
        Some(AppProto::Tls)
    } else if payload.starts_with(b"SSH-") {
        Some(AppProto::Ssh)
    } else if is_stratum(payload) {
        // Before HTTP: some pools take the handshake inside a request.
        Some(AppProto::Stratum)
    } else if is_http(payload) {
        Some(AppProto::Http)
    } else if port == 53 && payload.len() >= 12 {
        Some(AppProto::Dns)
    } else {
        None
    };
    reading
}

const METHODS: &[&[u8]] = &[
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"PRI * HTTP/2",
];

fn is_http(payload: &[u8]) -> bool {
    METHODS.iter().any(|method| payload.starts_with(method))
}

/// How far behind `"method"` its value may stand, in bytes: JSON may be printed with spaces.
const METHOD_REACH_BYTES: usize = 128;

/// A JSON-RPC call of a miner: `"method"` followed by `mining.`, `eth_submit` or `eth_login`
/// (Stratum v1, Ethereum proxy), or by `"login"` with an `"agent"` anywhere (`CryptoNote`).
fn is_stratum(payload: &[u8]) -> bool {
    let mut from = 0;
    while let Some(at) = find(&payload[from..], b"\"method\"") {
        let start = from + at;
        let reach = &payload[start..payload.len().min(start + METHOD_REACH_BYTES)];
        let named = [b"mining.".as_slice(), b"eth_submit", b"eth_login", b"eth_getwork"];
        if named.iter().any(|name| find(reach, name).is_some()) {
            return true;
        }
        if find(reach, b"\"login\"").is_some() && find(payload, b"\"agent\"").is_some() {
            return true;
        }
        from = start + 1;
    }
    false
}

/// Position of `needle` (lower case) in `hay`, whatever the case of ASCII letters.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window.eq_ignore_ascii_case(needle))
}

/// A TLS handshake record (RFC 8446 section 5.1) holding a client hello.
fn is_tls_hello(payload: &[u8]) -> bool {
    matches!(payload, [0x16, 0x03, 0..=4, _, _, 0x01, ..])
}

/// The parts of a hello that are read, taken from the front. A hello cut by the payload's bound
/// gives what lies before the cut.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn u8(&mut self) -> Option<usize> {
        self.take(1).map(|bytes| usize::from(bytes[0]))
    }

    fn u16(&mut self) -> Option<usize> {
        self.take(2).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    /// The next `count` bytes, or what is left of them.
    fn take_up_to(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        front
    }
}

/// Server name of a client hello (RFC 6066 section 3), lower case.
fn sni(payload: &[u8]) -> Option<String> {
    const SERVER_NAME: usize = 0;
    const HOST_NAME: usize = 0;
    let mut hello = Bytes(payload);
    // Record header 5, handshake header 4, version 2, random 32.
    hello.take(43)?;
    let session = hello.u8()?;
    hello.take(session)?;
    let ciphers = hello.u16()?;
    hello.take(ciphers)?;
    let compressions = hello.u8()?;
    hello.take(compressions)?;
    let length = hello.u16()?;
    let mut extensions = Bytes(hello.take_up_to(length));
    while let (Some(kind), Some(length)) = (extensions.u16(), extensions.u16()) {
        let body = extensions.take_up_to(length);
        if kind != SERVER_NAME {
            continue;
        }
        let mut names = Bytes(body);
        names.u16()?;
        while let (Some(kind), Some(length)) = (names.u8(), names.u16()) {
            let name = names.take(length)?;
            if kind == HOST_NAME {
                return host_name(name);
            }
        }
        return None;
    }
    None
}

/// A name made of the letters a host name may have; anything else is not shown to anybody.
fn host_name(bytes: &[u8]) -> Option<String> {
    /// Bytes of a host name (RFC 1035 section 2.3.4).
    const NAME_BYTES_MAX: usize = 255;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
    let sound = !bytes.is_empty() && bytes.len() <= NAME_BYTES_MAX && bytes.iter().all(plain);
    let text = sound.then(|| std::str::from_utf8(bytes).ok()).flatten()?;
    Some(text.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A client hello as RFC 8446 lays it out.
    fn hello(name: &str) -> Vec<u8> {
        let put = |out: &mut Vec<u8>, length: usize| {
            out.extend(u16::try_from(length).unwrap().to_be_bytes());
        };
        let mut server_name = Vec::new();
        put(&mut server_name, name.len() + 3);
        server_name.push(0);
        put(&mut server_name, name.len());
        server_name.extend(name.as_bytes());
        let mut extensions = vec![0, 0x17, 0, 0, 0, 0];
        put(&mut extensions, server_name.len());
        extensions.extend(server_name);
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([2, 9, 9, 0, 2, 0x13, 1, 1, 0]);
        put(&mut body, extensions.len());
        body.extend(extensions);
        let mut record = vec![0x16, 3, 1];
        put(&mut record, body.len() + 4);
        record.extend([1, 0]);
        put(&mut record, body.len());
        record.extend(body);
        record
    }

    #[test]
    fn server_name_is_read() {
        let reading = read(&hello("Pool.Example.COM"), 443);
        assert_eq!(reading.proto, Some(AppProto::Tls));
        assert_eq!(reading.sni.as_deref(), Some("pool.example.com"));
    }

    #[test]
    fn server_name_with_control_bytes_is_not_shown() {
        assert_eq!(read(&hello("a\u{1b}[31m"), 443).sni, None);
    }

    #[test]
    fn miners_are_recognised_and_others_are_not() {
        for text in [
            r#"{"id":1,"method":"mining.subscribe","params":[]}"#,
            r#"{"ID":1,"METHOD" : "MINING.AUTHORIZE","params":["w","x"]}"#,
            r#"{"method":"x"}{"method":"eth_submitLogin"}"#,
            r#"{"id":1,"method":"login","params":{"login":"4A","agent":"XMRig/6"}}"#,
            "POST / HTTP/1.1\r\n\r\n{\"method\": \"eth_getWork\"}",
        ] {
            assert_eq!(read(text.as_bytes(), 3333).proto, Some(AppProto::Stratum), "{text}");
        }
        for text in [
            r#"{"method":"login","params":{"user":"alice"}}"#,
            r#"{"method":"eth_call"}"#,
            "mining.subscribe is a method",
            "",
        ] {
            assert_eq!(read(text.as_bytes(), 3333).proto, None, "{text}");
        }
    }

    #[test]
    fn http_ssh_and_dns_are_recognised() {
        assert_eq!(read(b"PUT /x HTTP/1.1\r\n", 80).proto, Some(AppProto::Http));
        assert_eq!(read(b"SSH-2.0-OpenSSH_9.9\r\n", 22).proto, Some(AppProto::Ssh));
        assert_eq!(read(&[0; 12], 53).proto, Some(AppProto::Dns));
        assert_eq!(read(&[0; 12], 80).proto, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes, 53);
        }

        #[test]
        fn a_damaged_hello_is_read_without_panic(
            at in 0..120usize, value in any::<u8>(), cut in 0..130usize,
        ) {
            let mut bytes = hello("models.example.com");
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            let _ = read(&bytes, 443);
        }

        #[test]
        fn any_name_survives_the_hello(name in "[a-z][a-z0-9-]{0,40}(\\.[a-z]{2,5}){1,3}") {
            prop_assert_eq!(read(&hello(&name), 443).sni, Some(name));
        }
    }
}
