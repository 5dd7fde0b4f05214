//! Configuration: raw → check (pure, all errors at once) → checked types.
//!
//! | file | what it holds |
//! |---|---|
//! | `node` | the raw YAML tree, every node with its place |
//! | `section` | typed getters over one mapping |
//! | `key` | every key and what it means |
//! | `check`, `sink_check` | raw → checked, noting every mistake |
//! | `types`, `sink` | the checked configuration |
//! | `print` | the configuration as an annotated file |

mod check;
mod error;
mod key;
mod node;
mod print;
mod section;
mod sink;
mod sink_check;
mod types;

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

pub use error::{ConfigError, ConfigErrors, Problem};
pub use sink::{
    AlertFormat, FileSinkConfig, OutputFormat, SinkConfig, SinkKind, SyslogFacility,
    SyslogSinkConfig, SyslogTransport, WebhookSinkConfig,
};
pub use types::{
    AlertConfig, ClusterConfig, Config, ExportConfig, GpuConfig, KernelConfig, LogConfig,
    LogFormat, LogLevel, NameClasses, RulesConfig, StoreConfig, TelemetryConfig, WatchConfig,
};

/// Where the configuration is looked for when no file is named.
pub const DEFAULT_PATH: &str = "/etc/gpuwarden/config.yaml";

/// Bytes of a configuration file, at most: a file that long is not one.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Reads and checks the configuration.
///
/// Without a path, [`DEFAULT_PATH`] is read where it exists and the defaults are used where it
/// does not. A path that is given must exist.
pub fn load(path: Option<&Path>) -> Result<Config, ConfigErrors> {
    let named = path.unwrap_or(Path::new(DEFAULT_PATH));
    match read(named) {
        Ok(text) => parse(&text, &named.to_string_lossy()),
        Err(ConfigErrors::Unreadable { source, .. })
            if path.is_none() && source.kind() == io::ErrorKind::NotFound =>
        {
            Ok(Config::default())
        }
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> Result<String, ConfigErrors> {
    let unreadable = |source| ConfigErrors::Unreadable { path: path.to_owned(), source };
    // To open a pipe waits until somebody writes into it, perhaps for ever.
    if fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo()) {
        return Err(ConfigErrors::Pipe { path: path.to_owned() });
    }
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigErrors::TooLong { path: path.to_owned(), bytes_max: CONFIG_BYTES_MAX });
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].split(|byte| *byte == b'\n').count();
        ConfigErrors::NotText { path: path.to_owned(), line, at }
    })
}

/// Checks the text of a configuration; `file` is the name that messages use. Pure.
pub fn parse(text: &str, file: &str) -> Result<Config, ConfigErrors> {
    let mut issues = section::Issues { file: file.to_owned(), errors: Vec::new() };
    let blank = text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#')
    });
    if blank {
        return Ok(Config::default());
    }
    let config = match node::parse(text) {
        Ok(node) => check::check(&node, &mut issues),
        Err((mark, message)) => {
            issues.note(mark, Problem::Syntax(message));
            Config::default()
        }
    };
    if issues.errors.is_empty() {
        return Ok(config);
    }
    issues.errors.sort_by_key(|error| (error.line, error.column));
    Err(ConfigErrors::Invalid(issues.errors))
}
