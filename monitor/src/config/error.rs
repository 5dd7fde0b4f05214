//! What can be wrong with a configuration, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why no configuration could be made. Every mistake of a file is in it.
#[derive(Debug, Error)]
pub enum ConfigErrors {
    /// The file could not be read.
    #[error("cannot read configuration `{path}`: {source}; name another file with --config")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is longer than its bound.
    #[error("configuration `{path}` has more than {bytes_max} bytes; is it the right file?")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The bound.
        bytes_max: u64,
    },
    /// The file is a pipe, which may never end.
    #[error("configuration `{path}` is a pipe; expected a file")]
    Pipe {
        /// The file.
        path: PathBuf,
    },
    /// The file is not text.
    #[error("configuration `{path}` is not UTF-8 text (line {line}, byte {at}); save it as UTF-8")]
    NotText {
        /// The file.
        path: PathBuf,
        /// The line with the first byte that is not, from one.
        line: usize,
        /// That byte's place in the file, from zero.
        at: usize,
    },
    /// The file says something that is refused.
    #[error("{}", lines(.0))]
    Invalid(Vec<ConfigError>),
}

fn lines(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One mistake, with its place. Line and column count from one.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigError {
    /// File as it was named.
    pub file: String,
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.problem)
    }
}

/// What is wrong at one place.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Problem {
    /// Not YAML.
    #[error("not valid YAML: {0}")]
    Syntax(String),
    /// A key that does not exist.
    #[error(
        "unknown key `{key}` in {section}{}; known keys: {known}",
        did_you_mean(.nearest.as_deref())
    )]
    UnknownKey {
        /// The key as written.
        key: String,
        /// The section it stands in.
        section: String,
        /// The known key that is most like it.
        nearest: Option<String>,
        /// Every known key.
        known: String,
    },
    /// A key that must be there and is not.
    #[error("{section} lacks `{key}`: {meaning}")]
    MissingKey {
        /// The section.
        section: String,
        /// The key.
        key: &'static str,
        /// What it is for.
        meaning: &'static str,
    },
    /// A value of the wrong type.
    #[error("{section}.{key} is {found}; expected {expected}")]
    WrongType {
        /// The section.
        section: String,
        /// The key.
        key: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A value that is refused.
    #[error("{section}.{key} is `{value}`; {expected}")]
    Refused {
        /// The section.
        section: String,
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// What was expected, and what to do.
        expected: String,
    },
}

fn did_you_mean(name: Option<&str>) -> String {
    name.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}
