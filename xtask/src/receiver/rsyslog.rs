//! A real rsyslogd on loopback that takes syslog over TLS.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::child;
use crate::demo::Scene;
use crate::stage::free_address;

/// Patience with its start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What openssl is told: an authority, and a receiver called localhost. Without `basicConstraints`
/// and a name in `subjectAltName` no client of today would trust them.
const OPENSSL: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
CN = localhost
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[receiver]
basicConstraints = CA:FALSE
subjectAltName = DNS:localhost
";

/// One that runs. Dropped, it is ended.
#[derive(Debug)]
pub(super) struct Rsyslog {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Rsyslog {
    /// Makes certificates, starts it, and waits until it listens.
    pub(super) fn start(scene: &Scene<'_>) -> Result<Self> {
        let folder = scene.folder("rsyslog")?;
        certificates(&folder)?;
        let address = free_address()?;
        let config = folder.join("rsyslog.conf");
        fs::write(&config, configuration(&folder, address.port()))
            .with_context(|| format!("write {}", config.display()))?;
        let log = folder.join("log");
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = child::command("rsyslogd")
            .arg("-n")
            .arg("-f")
            .arg(&config)
            .arg("-i")
            .arg(folder.join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .context("start rsyslogd")?;
        let rsyslog = Self { child, folder, address };
        let listens = scene
            .interrupt()
            .wait(START_TIMEOUT, || Ok(TcpStream::connect(rsyslog.address).is_ok()))?;
        if !listens {
            bail!("rsyslogd does not listen at {address}:\n{}", child::tail(&log, 20));
        }
        Ok(rsyslog)
    }

    /// The sink that sends there, as in `export.sinks`.
    pub(super) fn sink(&self, name: &str) -> serde_json::Value {
        serde_json::json!({
            "type": "syslog",
            "name": name,
            "transport": "tls",
            "address": format!("localhost:{}", self.address.port()),
            "ca_file": self.folder.join("ca.pem"),
        })
    }

    /// What it wrote down: one line a message, its structured data.
    pub(super) fn received(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("received")).unwrap_or_default();
        // A line without its end is still being written.
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        whole.map(str::to_owned).collect()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        // Nobody else knows this one; all of it is in a folder that is thrown away.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(folder: &Path, port: u16) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    format!(
        r#"global(workDirectory="{}" defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="{}" defaultNetstreamDriverCertFile="{}"
  defaultNetstreamDriverKeyFile="{}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="out" type="string" string="%app-name% %structured-data%\n")
action(type="omfile" file="{}" template="out")
"#,
        folder.display(),
        at("ca.pem"),
        at("server.pem"),
        at("server.key"),
        at("received"),
    )
}

fn certificates(folder: &Path) -> Result<()> {
    let config = folder.join("openssl.cnf");
    fs::write(&config, OPENSSL).with_context(|| format!("write {}", config.display()))?;
    let openssl = |line: &str| {
        let mut openssl = child::command("openssl");
        openssl.current_dir(folder).args(line.split(' '));
        child::capture(&mut openssl).map(drop)
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config openssl.cnf";
    openssl(&format!("req -x509 {key} -extensions authority -days 2 -keyout ca.key -out ca.pem"))?;
    openssl(&format!("req -new {key} -keyout server.key -out server.csr"))?;
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial 2 -days 2 \
         -extfile openssl.cnf -extensions receiver -out server.pem",
    )
}
