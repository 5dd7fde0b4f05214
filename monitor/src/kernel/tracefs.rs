//! Classic tracepoints: where tracefs is, and where a tracepoint keeps its fields.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Where tracefs is looked for.
const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Why a classic tracepoint is of no use.
#[derive(Debug, Error)]
pub enum TracefsError {
    /// Not mounted, and mounting it failed.
    #[error(
        "tracefs is not mounted at {at} and cannot be: {source}; `mount -t tracefs tracefs {at}`"
    )]
    NotMounted {
        /// Where it belongs.
        at: &'static str,
        /// What the system said.
        source: rustix::io::Errno,
    },
    /// The tracepoint is not there.
    #[error("the kernel has no tracepoint {category}/{name}")]
    NoTracepoint {
        /// Its group.
        category: String,
        /// Its name.
        name: String,
    },
    /// The field is not there or has another width.
    #[error("tracepoint {name} has no {width}-byte field {field}")]
    NoField {
        /// The tracepoint.
        name: String,
        /// The field.
        field: String,
        /// The width that was expected.
        width: u32,
    },
}

/// tracefs, mounted by the system or by us. What we mounted is unmounted when this is dropped.
#[derive(Debug)]
pub struct Tracefs {
    root: PathBuf,
    ours: bool,
}

impl Tracefs {
    /// Finds tracefs, or mounts it where it belongs.
    pub fn open() -> Result<Self, TracefsError> {
        for root in MOUNTS {
            if Path::new(root).join("events").is_dir() {
                return Ok(Self { root: root.into(), ours: false });
            }
        }
        let at = MOUNTS[0];
        rustix::mount::mount("tracefs", at, "tracefs", rustix::mount::MountFlags::empty(), None)
            .map_err(|source| TracefsError::NotMounted { at, source })?;
        Ok(Self { root: at.into(), ours: true })
    }

    /// Whether the tracepoint exists.
    pub fn has(&self, category: &str, name: &str) -> bool {
        self.root.join("events").join(category).join(name).is_dir()
    }

    /// Position of a field of a tracepoint.
    pub fn field(
        &self,
        category: &str,
        name: &str,
        field: &str,
        width: u32,
    ) -> Result<u32, TracefsError> {
        let path = self.root.join("events").join(category).join(name).join("format");
        let text = fs::read_to_string(path).map_err(|_| TracefsError::NoTracepoint {
            category: category.to_owned(),
            name: name.to_owned(),
        })?;
        offset_in_format(&text, field, width).ok_or_else(|| TracefsError::NoField {
            name: name.to_owned(),
            field: field.to_owned(),
            width,
        })
    }
}

impl Drop for Tracefs {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) =
                rustix::mount::unmount(&self.root, rustix::mount::UnmountFlags::DETACH)
        {
            tracing::warn!(path = %self.root.display(), %error, "could not unmount tracefs");
        }
    }
}

/// Finds `field:long ret; offset:16; size:8; signed:1;` in a format file.
fn offset_in_format(text: &str, field: &str, width: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
        let name = parts.next()?.rsplit([' ', '*']).next()?;
        let offset = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
        let size: u32 = parts.next()?.strip_prefix("size:")?.parse().ok()?;
        (name == field && size == width).then_some(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: sys_exit_openat\nID: 700\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n\
        \tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;\n";

    #[test]
    fn field_is_found_by_name_and_width() {
        assert_eq!(offset_in_format(FORMAT, "ret", 8), Some(16));
        assert_eq!(offset_in_format(FORMAT, "ret", 4), None);
        assert_eq!(offset_in_format(FORMAT, "absent", 8), None);
        assert_eq!(offset_in_format("field:", "ret", 8), None);
    }
}
