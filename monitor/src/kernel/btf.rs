//! A reader for the kernel's own type information (BTF), as far as member offsets need it.
//!
//! The format is Documentation/bpf/btf.rst of Linux 6.18. The reader is total: any byte string
//! yields a [`Btf`] or a [`BtfError`], and every index is checked.

use std::collections::HashMap;
use std::path::Path;

use thiserror::Error;

/// Where the running kernel shows its type information.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Types that are read at most; a kernel has about 160 000.
pub const BTF_TYPES_MAX: usize = 4_000_000;
/// Bytes that are read at most; a kernel has about 8 MiB.
pub const BTF_BYTES_MAX: u64 = 256 << 20;
/// Nesting of anonymous structs and of typedefs that is followed.
const DEPTH_MAX: usize = 16;

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;

/// Why type information is of no use.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file is not there or not readable.
    #[error("{path}: {source}; the kernel must be built with CONFIG_DEBUG_INFO_BTF=y")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not BTF.
    #[error("type information is malformed: {0}")]
    Malformed(&'static str),
    /// It is longer than any kernel's.
    #[error("type information has {0} bytes, at most {BTF_BYTES_MAX} are read")]
    TooLong(u64),
}

/// Where a member is and how wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the struct.
    pub offset: u32,
    /// Width in bytes.
    pub width: u32,
}

/// Why a member was not found.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MemberError {
    /// No such struct.
    #[error("the kernel has no struct {0}")]
    NoStruct(String),
    /// No such member.
    #[error("struct {strukt} has no member {member}")]
    NoMember {
        /// The struct.
        strukt: String,
        /// The member.
        member: String,
    },
    /// A bit field cannot be read by offset.
    #[error("{0} is a bit field")]
    BitField(String),
}

#[derive(Clone, Copy)]
struct Type {
    name: u32,
    info: u32,
    size_or_id: u32,
    /// Position of what follows the common part.
    extra: usize,
}

impl Type {
    const fn kind(self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    const fn members(self) -> usize {
        (self.info & 0xffff) as usize
    }

    const fn has_bitfields(self) -> bool {
        self.info >> 31 == 1
    }
}

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Bytes that follow a type's common part; `None` for a kind that is not known.
const fn extra_bytes(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        1 | 14 | 17 => 4,
        2 | 7..=12 | 16 | 18 => 0,
        3 => 12,
        4 | 5 | 15 | 19 => members * 12,
        6 | 13 => members * 8,
        _ => return None,
    })
}

/// Type information that was read.
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    types: Vec<Type>,
    structs: HashMap<Box<str>, u32>,
}

impl Btf {
    /// Reads the running kernel's type information.
    pub fn from_kernel() -> Result<Self, BtfError> {
        Self::from_path(Path::new(VMLINUX))
    }

    /// Reads type information from a file.
    pub fn from_path(path: &Path) -> Result<Self, BtfError> {
        let unreadable = |source| BtfError::Unreadable { path: path.display().to_string(), source };
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > BTF_BYTES_MAX {
            return Err(BtfError::TooLong(length));
        }
        Self::parse(std::fs::read(path).map_err(unreadable)?)
    }

    /// Reads type information from bytes.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let magic = bytes.get(..2).map(|magic| u16::from_le_bytes([magic[0], magic[1]]));
        if magic != Some(MAGIC) {
            return Err(BtfError::Malformed("it does not start with 0xeb9f"));
        }
        if bytes.len() < HEADER_BYTES {
            return Err(BtfError::Malformed("the header is cut off"));
        }
        let header = word(&bytes, 4).unwrap_or(0) as usize;
        let at = |field: usize| word(&bytes, field).unwrap_or(0) as usize;
        let (type_at, type_len) = (header.saturating_add(at(8)), at(12));
        let (strings, strings_len) = (header.saturating_add(at(16)), at(20));
        let end = type_at.saturating_add(type_len);
        if end > bytes.len() || strings.saturating_add(strings_len) > bytes.len() {
            return Err(BtfError::Malformed("a section lies outside the file"));
        }
        let mut btf = Self { bytes, strings, types: Vec::new(), structs: HashMap::new() };
        btf.index(type_at, end)?;
        Ok(btf)
    }

    fn index(&mut self, start: usize, end: usize) -> Result<(), BtfError> {
        // Type 0 is void.
        self.types.push(Type { name: 0, info: 0, size_or_id: 0, extra: 0 });
        let mut at = start;
        while at < end {
            if at + TYPE_BYTES > end || self.types.len() >= BTF_TYPES_MAX {
                return Err(BtfError::Malformed("a type is cut off, or there are too many"));
            }
            let read = |field: usize| word(&self.bytes, at + field).unwrap_or(0);
            let found =
                Type { name: read(0), info: read(4), size_or_id: read(8), extra: at + TYPE_BYTES };
            let extra = extra_bytes(found.kind(), found.members())
                .ok_or(BtfError::Malformed("a type has a kind that is not known"))?;
            at = found.extra.saturating_add(extra);
            if at > end {
                return Err(BtfError::Malformed("a type's members lie outside the section"));
            }
            let id = u32::try_from(self.types.len()).unwrap_or(u32::MAX);
            if found.kind() == KIND_STRUCT
                && found.members() > 0
                && let Some(name) = self.text(found.name)
            {
                let name: Box<str> = name.into();
                self.structs.entry(name).or_insert(id);
            }
            self.types.push(found);
        }
        Ok(())
    }

    /// Finds a member by its path from a struct, through anonymous structs and unions.
    pub fn member(&self, strukt: &str, path: &str) -> Result<Member, MemberError> {
        let mut holder =
            *self.structs.get(strukt).ok_or_else(|| MemberError::NoStruct(strukt.to_owned()))?;
        let mut offset = 0u32;
        let mut width = 0;
        for name in path.split('.') {
            let missing =
                || MemberError::NoMember { strukt: strukt.to_owned(), member: path.to_owned() };
            let (bits, kind) = self.find(holder, name, 0).ok_or_else(missing)?;
            let bits = bits.ok_or_else(|| MemberError::BitField(format!("{strukt}.{path}")))?;
            offset = offset.saturating_add(bits / 8);
            width = self.size(kind, 0).ok_or_else(missing)?;
            holder = self.plain(kind, 0);
        }
        Ok(Member { offset, width })
    }

    /// The id of a struct.
    pub fn struct_id(&self, name: &str) -> Option<u32> {
        self.structs.get(name).copied()
    }

    /// The id of a function of the kernel.
    pub fn function_id(&self, name: &str) -> Option<u32> {
        let is_it = |found: &Type| {
            found.kind() == KIND_FUNC && self.text(found.name).is_some_and(|text| text == name)
        };
        u32::try_from(self.types.iter().position(is_it)?).ok()
    }

    /// Parameters of a tracepoint's handler, by type. The first is the handler's own pointer and is
    /// left out.
    fn tracepoint(&self, name: &str) -> Option<Vec<u32>> {
        let handler = format!("btf_trace_{name}");
        let is_it =
            |found: &&Type| found.kind() == KIND_TYPEDEF && self.text(found.name) == Some(&handler);
        let pointer = self.types.get(self.types.iter().find(is_it)?.size_or_id as usize)?;
        let proto = self.types.get(pointer.size_or_id as usize)?;
        if pointer.kind() != KIND_PTR || proto.kind() != KIND_FUNC_PROTO {
            return None;
        }
        let kinds = (1..proto.members()).map(|at| word(&self.bytes, proto.extra + at * 8 + 4));
        kinds.collect()
    }

    /// Whether the argument of a tracepoint at a position is a pointer.
    pub fn tracepoint_takes_pointer(&self, name: &str, position: usize) -> bool {
        let kinds = self.tracepoint(name).unwrap_or_default();
        let found = kinds.get(position).map(|kind| self.plain(*kind, 0));
        let found = found.and_then(|kind| self.types.get(kind as usize));
        found.is_some_and(|found| found.kind() == KIND_PTR)
    }

    /// The struct that the argument of a tracepoint at a position points to; `None` where it points
    /// to none.
    pub fn tracepoint_argument(&self, name: &str, position: usize) -> Option<&str> {
        let kind = *self.tracepoint(name)?.get(position)?;
        let pointer = self.types.get(self.plain(kind, 0) as usize)?;
        if pointer.kind() != KIND_PTR {
            return None;
        }
        let target = self.types.get(self.plain(pointer.size_or_id, 0) as usize)?;
        self.text(target.name).filter(|name| !name.is_empty())
    }

    /// The member named `name`, anywhere in the anonymous parts of `holder`: its position in bits
    /// (`None` for a bit field) and its type.
    fn find(&self, holder: u32, name: &str, depth: usize) -> Option<(Option<u32>, u32)> {
        let found = *self.types.get(holder as usize)?;
        if depth > DEPTH_MAX || !matches!(found.kind(), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for index in 0..found.members() {
            let at = found.extra + index * 12;
            let (member, kind) = (word(&self.bytes, at)?, word(&self.bytes, at + 4)?);
            let raw = word(&self.bytes, at + 8)?;
            let (bits, is_field) = if found.has_bitfields() {
                (raw & 0x00ff_ffff, raw >> 24 != 0)
            } else {
                (raw, false)
            };
            match self.text(member) {
                Some("") | None => {
                    let inner = self.plain(kind, 0);
                    if let Some((position, kind)) = self.find(inner, name, depth + 1) {
                        return Some((position.map(|inner| inner.saturating_add(bits)), kind));
                    }
                }
                Some(text) if text == name => {
                    let whole = !is_field && bits % 8 == 0;
                    return Some((whole.then_some(bits), kind));
                }
                Some(_) => {}
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn plain(&self, id: u32, depth: usize) -> u32 {
        let Some(found) = self.types.get(id as usize) else { return 0 };
        match found.kind() {
            KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG
                if depth < DEPTH_MAX =>
            {
                self.plain(found.size_or_id, depth + 1)
            }
            _ => id,
        }
    }

    fn size(&self, id: u32, depth: usize) -> Option<u32> {
        let found = *self.types.get(self.plain(id, 0) as usize)?;
        match found.kind() {
            KIND_INT | KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_ENUM64 => Some(found.size_or_id),
            KIND_PTR => Some(8),
            KIND_ARRAY if depth < DEPTH_MAX => {
                let item = self.size(word(&self.bytes, found.extra)?, depth + 1)?;
                item.checked_mul(word(&self.bytes, found.extra + 8)?)
            }
            _ => None,
        }
    }

    fn text(&self, offset: u32) -> Option<&str> {
        let start = self.strings.checked_add(offset as usize)?;
        let rest = self.bytes.get(start..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn running_kernel_agrees_with_what_is_known_of_it() {
        let btf = Btf::from_kernel().expect("the test machine has BTF");
        assert_eq!(btf.member("task_struct", "tgid").expect("there").width, 4);
        let name = btf.member("dentry", "d_name.name").expect("through an anonymous union");
        let len = btf.member("dentry", "d_name.len").expect("through two anonymous parts");
        assert!(len.offset < name.offset);
        assert_eq!(btf.member("sock", "__sk_common.skc_v6_daddr").expect("there").width, 16);
        assert!(btf.function_id("bpf_get_current_task").is_some());
        assert!(btf.function_id("bpf_get_current_taskk").is_none());
        assert!(matches!(btf.member("nothing", "x"), Err(MemberError::NoStruct(_))));
        assert!(matches!(btf.member("file", "nothing"), Err(MemberError::NoMember { .. })));
        assert!(matches!(
            btf.member("task_struct", "sched_reset_on_fork"),
            Err(MemberError::BitField(_))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if bytes.len() > 2 {
                bytes[0] = 0x9f;
                bytes[1] = 0xeb;
            }
            if let Ok(btf) = Btf::parse(bytes) {
                let _found = btf.member("a", "b.c");
            }
        }
    }
}
