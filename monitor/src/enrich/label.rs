//! Labels: which files are weights, by identity. A label follows the inode through rename, link
//! and copy of the name; the path only tells how it was found.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};
use hashbrown::DefaultHashBuilder;

use super::content::{Classes, FileClass, Format, is_generic_name, model_of};
use super::limit::{
    HEAD_BYTES, HEADS_PER_SECOND_MAX, LABELS_MAX, MODELS_MAX, PLAIN_FILES_MAX,
    WEIGHTS_BY_NAME_BYTES_MIN, WEIGHTS_BYTES_MIN,
};
use super::source::ProcSource;
use super::table::{Handle, Table};
use crate::model::{BootNs, FileId, FileOpen, FileType, Tgid};

/// Number of a model's label in the kernel's label map; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelId(pub u32);

/// A change that the kernel's label map must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelChange {
    /// The file carries this label.
    Set(FileId, LabelId),
    /// The file carries no label any more.
    Remove(FileId),
}

/// A weight file as the scan found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSeed {
    /// Which file.
    pub id: FileId,
    /// Where it was found.
    pub path: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its format by content.
    pub format: Format,
}

/// A labelled file.
#[derive(Clone, Debug)]
pub(super) struct Labelled {
    pub(super) label: LabelId,
    pub(super) size_bytes: u64,
    pub(super) format: Format,
    /// The path it was last seen under.
    pub(super) path: Arc<str>,
    /// Whether it was not found but made: a large file written by who had read the model.
    pub(super) is_derived: bool,
}

/// A model: what labels name.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) name: String,
    /// What the paths of its files have in common.
    pub(super) root: String,
    /// Sum of its labelled files (shards), in bytes.
    pub(super) size_bytes: u64,
}

/// File systems whose reads may wait for another machine or process (include/uapi/linux/magic.h):
/// their files are labelled by name alone, because this stage must not wait.
const WAITING_FILE_SYSTEMS: &[u64] = &[
    0x6969,      // nfs
    0x517b,      // smb
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x6573_5546, // fuse
    0x00c3_6400, // ceph
    0x0bd0_0bd0, // lustre
    0x0102_1997, // 9p
    0x5346_414f, // afs
    0x4750_4653, // gpfs
];

/// Whether reads of a file system may wait for another machine or process.
pub(super) fn is_waiting(magic: u64) -> bool {
    WAITING_FILE_SYSTEMS.contains(&magic)
}

/// Every label, bounded.
pub(super) struct Labels {
    files: Table<FileId, Labelled>,
    models: Vec<Model>,
    by_root: HashMap<String, LabelId, DefaultHashBuilder>,
    /// Files looked at that are no weights.
    plain: Table<FileId, ()>,
    globs: GlobSet,
    /// What each glob begins with: most paths begin otherwise and need no matching.
    prefixes: Vec<String>,
    pub(super) classes: Classes,
    big_file_bytes: u64,
    heads_second: u64,
    heads: u32,
    /// Inodes that were labelled before a restart.
    by_inode: HashSet<(u32, u64), DefaultHashBuilder>,
    /// Changes of labels so far.
    pub(super) revision: u64,
    /// Files left unlabelled because there were too many models.
    pub(super) refused: u64,
    /// Files not looked into because too many were opened at once.
    pub(super) unread: u64,
}

/// Compiles globs; those that do not compile are left out, as the configuration refuses them.
pub(super) fn glob_set(globs: &[String]) -> GlobSet {
    let mut builder = GlobSetBuilder::new();
    for glob in globs.iter().filter_map(|glob| Glob::new(glob).ok()) {
        builder.add(glob);
    }
    builder.build().unwrap_or_else(|_| GlobSet::empty())
}

/// The part of a glob before its first special character.
fn literal_prefix(glob: &str) -> &str {
    let end = glob.find(['*', '?', '[', '{', '\\']).unwrap_or(glob.len());
    glob.get(..end).unwrap_or_default()
}

impl Labels {
    pub(super) fn new(globs: &[String], classes: Classes, big_file_bytes: u64) -> Self {
        Self {
            files: Table::new(LABELS_MAX),
            models: Vec::new(),
            by_root: HashMap::default(),
            plain: Table::new(PLAIN_FILES_MAX),
            globs: glob_set(globs),
            prefixes: globs.iter().map(|glob| literal_prefix(glob).to_owned()).collect(),
            classes,
            big_file_bytes,
            heads_second: 0,
            heads: 0,
            by_inode: HashSet::default(),
            revision: 0,
            refused: 0,
            unread: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.files.evicted()
    }

    pub(super) fn get(&self, handle: Handle<Labelled>) -> Option<&Labelled> {
        self.files.get(handle)
    }

    pub(super) fn lookup(&self, id: &FileId) -> Option<&Labelled> {
        self.files.get(self.files.find(id)?)
    }

    /// Whether a file carries a label, with or without its generation.
    pub(super) fn is_labelled(&self, id: &FileId) -> bool {
        self.lookup(id).is_some() || self.lookup(&FileId { generation: 0, ..*id }).is_some()
    }

    pub(super) fn model(&self, label: LabelId) -> Option<&Model> {
        self.models.get((label.0 as usize).checked_sub(1)?)
    }

    /// Whether the file was looked at and is no weights.
    pub(super) fn is_plain(&self, id: &FileId) -> bool {
        self.plain.find(id).is_some()
    }

    /// Labels a file that the scan found.
    pub(super) fn add(&mut self, seed: &LabelSeed, changes: &mut Vec<LabelChange>) {
        // A file that was restored is known with its generation, which the scan cannot tell.
        let is_restored = self.by_inode.contains(&(seed.id.device, seed.id.inode));
        if !is_restored && self.known(&seed.id, changes).is_none() {
            self.set(seed.id, &seed.path, seed.size_bytes, seed.format, changes);
        }
    }

    /// The label of an opened file, made now where the file turns out to be weights.
    pub(super) fn open(
        &mut self,
        open: &FileOpen,
        process: Tgid,
        time: BootNs,
        source: &dyn ProcSource,
        changes: &mut Vec<LabelChange>,
    ) -> Option<Handle<Labelled>> {
        if open.file_type != FileType::Regular {
            return None;
        }
        if let Some(handle) = self.known(&open.id, changes) {
            self.resize(handle, open.size_bytes);
            self.move_to(handle, &open.path);
            return Some(handle);
        }
        let copied = open.copy_of.map(LabelId).filter(|_| open.size_bytes != 0);
        if let Some(label) = copied.filter(|label| self.model(*label).is_some()) {
            return Some(self.derive(open.id, label, &open.path, open.size_bytes, changes));
        }
        // A file being written has no content yet; it is looked at when it is read.
        if !open.reads() || open.size_bytes == 0 || self.is_plain(&open.id) {
            return None;
        }
        let class = self.classes.of(&open.path);
        let is_big = open.size_bytes >= self.big_file_bytes;
        let may_be = class == FileClass::Weights && open.size_bytes >= WEIGHTS_BYTES_MIN;
        let is_listed = self.prefixes.iter().any(|prefix| open.path.starts_with(prefix))
            && self.globs.is_match(&open.path);
        if !is_listed && !is_big && !may_be {
            return None;
        }
        let format = self.look(open, process, time, source)?;
        let is_generic = is_generic_name(&open.path);
        let is_weights = is_weights(is_listed, class, is_generic, format, open.size_bytes);
        if !is_weights {
            self.plain.insert(open.id, ());
            return None;
        }
        self.set(open.id, &open.path, open.size_bytes, format, changes)
    }

    /// The handle of a labelled file. A file that the scan labelled without knowing its
    /// generation takes on the generation it is first opened with.
    pub(super) fn known(
        &mut self,
        id: &FileId,
        changes: &mut Vec<LabelChange>,
    ) -> Option<Handle<Labelled>> {
        if let Some(handle) = self.files.find(id) {
            self.files.touch(handle);
            return Some(handle);
        }
        if id.generation == 0 {
            return None;
        }
        let scanned = FileId { generation: 0, ..*id };
        let handle = self.files.find(&scanned)?;
        self.files.rekey(handle, *id);
        let label = self.files.get(handle)?.label;
        changes.push(LabelChange::Remove(scanned));
        changes.push(LabelChange::Set(*id, label));
        Some(handle)
    }

    /// The format by content; `Unknown` where the content may not be read, `None` where reading
    /// it has to be left for another time.
    fn look(
        &mut self,
        open: &FileOpen,
        process: Tgid,
        time: BootNs,
        source: &dyn ProcSource,
    ) -> Option<Format> {
        if open.path_truncated || is_waiting(open.fs_magic) {
            return Some(Format::Unknown);
        }
        let second = time.0 / 1_000_000_000;
        if second != self.heads_second {
            (self.heads_second, self.heads) = (second, 0);
        }
        if self.heads >= HEADS_PER_SECOND_MAX {
            self.unread += 1;
            return None;
        }
        self.heads += 1;
        let mut bytes = [0; HEAD_BYTES];
        let Some(head) = source.head(process, &open.path, &mut bytes) else {
            return Some(Format::Unknown);
        };
        // The name may lead to another file by now. Device numbers differ between stat and the
        // kernel's own on btrfs and overlayfs, so the inode and not the device is compared.
        if head.inode != open.id.inode {
            return Some(Format::Unknown);
        }
        Some(Format::of(bytes.get(..head.filled).unwrap_or_default()))
    }

    fn set(
        &mut self,
        id: FileId,
        path: &str,
        size_bytes: u64,
        format: Format,
        changes: &mut Vec<LabelChange>,
    ) -> Option<Handle<Labelled>> {
        let Some(label) = self.label(path) else {
            self.refused += 1;
            return None;
        };
        Some(self.put(id, label, path, size_bytes, format, false, changes))
    }

    /// Labels a file as made from a model.
    pub(super) fn derive(
        &mut self,
        id: FileId,
        label: LabelId,
        path: &str,
        size_bytes: u64,
        changes: &mut Vec<LabelChange>,
    ) -> Handle<Labelled> {
        if let Some(handle) = self.known(&id, changes) {
            self.resize(handle, size_bytes);
            return handle;
        }
        self.put(id, label, path, size_bytes, Format::Unknown, true, changes)
    }

    #[expect(clippy::too_many_arguments, reason = "what is known of a file when it is labelled")]
    fn put(
        &mut self,
        id: FileId,
        label: LabelId,
        path: &str,
        size_bytes: u64,
        format: Format,
        is_derived: bool,
        changes: &mut Vec<LabelChange>,
    ) -> Handle<Labelled> {
        if let Some(handle) = self.plain.find(&id) {
            self.plain.remove(handle);
        }
        let path = Arc::from(path);
        let file = Labelled { label, size_bytes: 0, format, path, is_derived };
        self.revision += 1;
        let (handle, victim) = self.files.insert(id, file);
        if let Some((id, file)) = victim {
            if !file.is_derived {
                self.grow(file.label, file.size_bytes, 0);
            }
            changes.push(LabelChange::Remove(id));
        }
        self.resize(handle, size_bytes);
        changes.push(LabelChange::Set(id, label));
        handle
    }

    fn label(&mut self, path: &str) -> Option<LabelId> {
        let model = model_of(path);
        self.label_of(model.root, model.name)
    }

    fn label_of(&mut self, root: &str, name: String) -> Option<LabelId> {
        if let Some(label) = self.by_root.get(root) {
            return Some(*label);
        }
        if self.models.len() >= MODELS_MAX {
            return None;
        }
        let label = LabelId(u32::try_from(self.models.len() + 1).ok()?);
        self.by_root.insert(root.to_owned(), label);
        self.models.push(Model { name, root: root.to_owned(), size_bytes: 0 });
        Some(label)
    }

    /// Labels a file as it was labelled before a restart.
    #[expect(clippy::too_many_arguments, reason = "what is known of a file when it is labelled")]
    pub(super) fn restore(
        &mut self,
        id: FileId,
        (root, name): (&str, &str),
        path: &str,
        size_bytes: u64,
        format: Format,
        is_derived: bool,
        changes: &mut Vec<LabelChange>,
    ) {
        if self.known(&id, changes).is_some() {
            return;
        }
        if let Some(label) = self.label_of(root, name.to_owned()) {
            self.put(id, label, path, size_bytes, format, is_derived, changes);
            self.by_inode.insert((id.device, id.inode));
        }
    }

    /// Labelled files, the latest used first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = (&FileId, &Labelled)> {
        let handles: Vec<_> = self.files.oldest_first().collect();
        handles
            .into_iter()
            .rev()
            .filter_map(|handle| Some((self.files.key(handle)?, self.files.get(handle)?)))
    }

    pub(super) fn resize(&mut self, handle: Handle<Labelled>, size_bytes: u64) {
        let Some(file) = self.files.get_mut(handle) else { return };
        let (label, before) = (file.label, file.size_bytes);
        file.size_bytes = size_bytes;
        // What is made from a model is no part of it.
        if !file.is_derived {
            self.grow(label, before, size_bytes);
        }
    }

    /// Notes the path a labelled file has now.
    pub(super) fn move_to(&mut self, handle: Handle<Labelled>, path: &str) {
        if let Some(file) = self.files.get_mut(handle)
            && *file.path != *path
            && !path.is_empty()
        {
            file.path = Arc::from(path);
            self.revision += 1;
        }
    }

    fn grow(&mut self, label: LabelId, before: u64, after: u64) {
        let model = (label.0 as usize).checked_sub(1).and_then(|at| self.models.get_mut(at));
        if let Some(model) = model {
            model.size_bytes = model.size_bytes.saturating_sub(before).saturating_add(after);
        }
    }
}

/// Whether a file is weights: what the platform team lists needs a sign of it in name or content;
/// what it does not list needs more, and where the name says little, the content has to say it.
pub(super) fn is_weights(
    is_listed: bool,
    class: FileClass,
    is_generic_name: bool,
    format: Format,
    size_bytes: u64,
) -> bool {
    let named = class == FileClass::Weights;
    let told = format != Format::Unknown;
    if is_listed {
        return named || told;
    }
    match (named, told) {
        (true, true) => size_bytes >= WEIGHTS_BYTES_MIN,
        (true, false) => !is_generic_name && size_bytes >= WEIGHTS_BY_NAME_BYTES_MIN,
        (false, _) => format.is_weights_only() && size_bytes >= WEIGHTS_BYTES_MIN,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Looking at the prefix first refuses nothing that the glob takes.
        #[test]
        fn whatever_a_glob_matches_begins_with_its_prefix(
            glob in "/[ab]{1,2}(/[ab*?]{1,2}|/\\*\\*|/\\{a,b\\}|/\\[ab\\]){0,3}",
            path in "(/[ab]{1,2}){1,4}",
        ) {
            if let Ok(compiled) = Glob::new(&glob) {
                let matched = compiled.compile_matcher().is_match(&path);
                prop_assert!(!matched || path.starts_with(literal_prefix(&glob)), "{glob} {path}");
            }
        }
    }
}
