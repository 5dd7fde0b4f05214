//! What reads and changes of files mean for labels and accounts, and the facts of files that go
//! beyond what a record says.

use super::content::FileClass;
use super::enricher::{Enricher, Observation};
use super::facts::{Enriched, text};
use super::held::Held;
use super::process::Process;
use super::table::Handle;
use super::workload::Workload;
use super::{filesystem, secret};
use crate::model::{
    BootNs, FieldId, FileChange, FileId, FileOp, FileRead, FileType, ProcessKey, Tgid, Value,
};

/// What a workload read of one file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReadSum {
    /// Bytes that the account holds for it.
    pub(super) counted: u64,
    /// Bytes that were read or mapped, as far as counted.
    pub(super) bytes: u64,
}

impl Enricher {
    /// Books bytes read of a labelled file: exact where they are counted, and then no more than
    /// the file has. Where opens are booked with the whole size, they stand already.
    pub(super) fn file_read(&mut self, read: &FileRead, time: BootNs, seen: &mut Observation) {
        seen.label = self.labels.known(&read.id, &mut seen.label_changes);
        if seen.label.is_none() {
            seen.label = self.derive_now(&read.id, read.size_bytes, seen);
        }
        let Some(label) = seen.label.and_then(|label| self.labels.get(label)).cloned() else {
            return;
        };
        seen.class = self.labels.classes.of(&label.path);
        if let Some(process) = seen.process.and_then(|process| self.processes.get_mut(process)) {
            process.has_read_weights = true;
        }
        let Some(workload) = seen.workload else { return };
        let pair = self.read_pair(workload, read.id);
        let is_new = self.reads.find(&pair).is_none();
        let handle = match self.reads.find(&pair) {
            Some(handle) => handle,
            None => self.reads.insert(pair, ReadSum::default()).0,
        };
        self.reads.touch(handle);
        let Some(sum) = self.reads.get_mut(handle) else { return };
        sum.bytes = sum.bytes.saturating_add(read.bytes);
        let size = if read.size_bytes == 0 { label.size_bytes } else { read.size_bytes };
        let counted = sum.bytes.min(size).max(sum.counted);
        let grown = counted - sum.counted;
        sum.counted = counted;
        let name = self.labels.model(label.label).map_or("", |model| model.name.as_str());
        let Some(known) = self.workloads.get_mut(workload) else { return };
        let is_first = known.account.weights_read.is_none();
        known.account.read_weights(label.label, name, is_new, grown, time);
        known.account.read_derived(&label, if is_new { size } else { 0 });
        if is_first {
            self.follow_open_files(workload, time);
        }
    }

    /// What the sum of a workload's reads of a file is kept by. The scan at start names files
    /// without their generation; what is kept of one like that stays what it is.
    pub(super) fn read_pair(
        &self,
        workload: Handle<Workload>,
        file: FileId,
    ) -> (Handle<Workload>, FileId) {
        let scanned = (workload, FileId { generation: 0, ..file });
        if self.reads.find(&scanned).is_some() { scanned } else { (workload, file) }
    }

    /// The whole of a file counts as read by a workload.
    pub(super) fn count_whole(&mut self, workload: Handle<Workload>, file: FileId, bytes: u64) {
        let pair = self.read_pair(workload, file);
        if let Some(handle) = self.reads.find(&pair)
            && let Some(sum) = self.reads.get_mut(handle)
        {
            sum.counted = bytes;
        }
    }

    /// Books weights that a process had open or mapped before the monitor looked on. How much of
    /// them was read nobody knows: the whole counts, and evidence says so.
    pub fn held(&mut self, held: &Held, time: BootNs) {
        let Some(process) = self.processes.find_tgid(held.process) else { return };
        let Some(workload) = self.workload_of(process, time) else { return };
        self.labels.known(&held.id, &mut Vec::new());
        self.read_whole(process, workload, &held.id, held.size_bytes, time);
        if self.labels.is_labelled(&held.id)
            && let Some(known) = self.workloads.get_mut(workload)
        {
            known.account.has_held_weights = true;
        }
    }

    /// Books the whole of a labelled file as read by a process, however much of it was.
    pub(super) fn read_whole(
        &mut self,
        process: Handle<Process>,
        workload: Handle<Workload>,
        id: &FileId,
        size_bytes: u64,
        time: BootNs,
    ) {
        let Some(file) = self.labels.lookup(id).cloned() else { return };
        let is_new = self.is_first_read(workload, *id);
        if let Some(process) = self.processes.get_mut(process) {
            process.has_read_weights = true;
        }
        let name = self.labels.model(file.label).map_or("", |model| model.name.as_str());
        let Some(known) = self.workloads.get_mut(workload) else { return };
        let account = &mut known.account;
        let is_first = account.weights_read.is_none();
        let bytes = if is_new { size_bytes } else { 0 };
        account.read_weights(file.label, name, is_new, bytes, time);
        account.read_derived(&file, bytes);
        account.weights_are_bound = true;
        self.count_whole(workload, *id, size_bytes);
        if is_first {
            self.follow_open_files(workload, time);
        }
    }

    /// Lets labels follow what was done to a file.
    pub(super) fn file_changed(
        &mut self,
        change: &FileChange,
        process: ProcessKey,
        time: BootNs,
        seen: &mut Observation,
    ) {
        seen.label = self.labels.known(&change.id, &mut seen.label_changes);
        let path = if change.new_path.is_empty() { &change.path } else { &change.new_path };
        seen.class = self.labels.classes.of(path);
        if seen.class == FileClass::None {
            seen.class = self.labels.classes.of(&change.path);
        }
        match (change.op, seen.label) {
            (FileOp::Rename, Some(label)) => self.labels.move_to(label, &change.new_path),
            (FileOp::Truncate | FileOp::Write, Some(label)) => {
                self.labels.resize(label, change.size_bytes);
            }
            (FileOp::Copy, Some(_)) if change.other != FileId::default() => {
                self.copied(change, process, time, seen);
            }
            _ => {}
        }
        if change.op == FileOp::Write
            && let Some(workload) = seen.workload
            && !self.is_own(process.tgid)
        {
            self.wrote(change, workload, seen);
            if seen.label.is_some() {
                self.segment_is_derived(&change.id, time, seen);
            }
        }
    }

    /// A labelled file was copied in the kernel: its copy is of the same model, whatever its name.
    fn copied(
        &mut self,
        change: &FileChange,
        process: ProcessKey,
        time: BootNs,
        seen: &mut Observation,
    ) {
        let Some(source) = seen.label.and_then(|label| self.labels.get(label)).cloned() else {
            return;
        };
        let least = super::limit::DERIVED_BYTES_MIN.min(source.size_bytes.max(1));
        if change.bytes >= least {
            let (path, size) = (&change.new_path, change.bytes);
            let (other, changes) = (change.other, &mut seen.label_changes);
            self.labels.derive(other, source.label, path, size, changes);
        }
        if let Some(workload) = seen.workload {
            let (path, magic) = (&change.new_path, change.fs_magic);
            self.follow_file(change.other, path, magic, process, workload, time);
        }
    }

    /// A file was written by a workload: one that has read weights may have carried them on.
    fn wrote(&mut self, change: &FileChange, workload: Handle<Workload>, seen: &mut Observation) {
        let Some(least) = self.derived_from_bytes(workload) else { return };
        let Some(source) = self.derived_label(workload) else { return };
        let known = seen.label.and_then(|label| self.labels.get(label));
        let is_enough = change.size_bytes >= least || self.are_pieces(workload, change.size_bytes);
        if !is_enough || known.is_some_and(|file| !file.is_derived) {
            return;
        }
        let before = known.map_or(0, |file| file.size_bytes);
        let is_new = known.is_none();
        let (path, size) = (&change.path, change.size_bytes);
        let changes = &mut seen.label_changes;
        seen.label = Some(self.labels.derive(change.id, source, path, size, changes));
        let Some(known) = self.workloads.get_mut(workload) else { return };
        let grown = if is_new { size } else { change.bytes.min(size.abs_diff(before).max(1)) };
        known.account.derived_bytes = known.account.derived_bytes.saturating_add(grown);
    }

    /// The whole path of a name that a process gave a file, where the file stands under it.
    pub fn given_name(
        &self,
        process: Tgid,
        directory: i32,
        name: &str,
        id: &FileId,
    ) -> Option<String> {
        let path = if name.starts_with('/') {
            name.to_owned()
        } else {
            let known = || {
                let process = self.processes.get(self.processes.find_tgid(process)?)?;
                let cwd = &process.image.cwd;
                (directory < 0 && !cwd.is_empty()).then(|| cwd.clone())
            };
            let base = self.source.directory(process, directory).or_else(known)?;
            format!("{}/{}", base.trim_end_matches('/'), name.trim_start_matches("./"))
        };
        let found = self.source.stat(process, &path)?;
        (found.inode == id.inode).then_some(path)
    }

    /// Where a labelled file was last seen, for who marks its inode.
    pub fn label_path(&self, id: &FileId) -> Option<&str> {
        Some(&self.labels.lookup(id)?.path)
    }

    /// Size of a labelled file as far as known.
    pub fn label_bytes(&self, id: &FileId) -> Option<u64> {
        Some(self.labels.lookup(id)?.size_bytes)
    }

    /// Whether bytes read are counted exactly, so that an open says nothing about them.
    pub fn set_reads_exact(&mut self, is_exact: bool) {
        self.reads_exact = is_exact;
    }
}

impl<'e> Enriched<'e> {
    fn fs_magic(&self) -> Option<u64> {
        let magic = match (self.open(), self.change()) {
            (Some(open), _) => open.fs_magic,
            (None, Some(change)) => change.fs_magic,
            (None, None) => return None,
        };
        (magic != 0).then_some(magic)
    }

    fn file_system(&self) -> Option<&'static str> {
        if self.open().is_some_and(|open| open.file_type == FileType::Block) {
            return Some("block");
        }
        filesystem::name(self.fs_magic()?)
    }

    fn secret(&self) -> Option<&'static str> {
        *self.secret.get_or_init(|| secret::class(self.file_path()?))
    }

    /// Class of the file of any event about one.
    pub(super) fn any_file_class(&self) -> Option<&'static str> {
        self.file_id()?;
        if self
            .open()
            .is_some_and(|open| matches!(open.file_type, FileType::Char | FileType::Block))
        {
            return Some("device");
        }
        if self.class == FileClass::None && self.secret().is_some() {
            return Some(FileClass::Secret.as_str());
        }
        Some(self.class.as_str())
    }

    fn derived_from(&self) -> Option<&'e str> {
        let label = self.label?;
        let model = label.is_derived.then(|| self.enricher.labels.model(label.label))??;
        Some(model.name.as_str())
    }

    /// The facts of this file; [`Value::Missing`] for any other.
    pub(super) fn file_field(&self, id: FieldId) -> Value<'_> {
        match id {
            FieldId::FileSecretClass => text(self.secret()),
            FieldId::FileFs => text(self.file_system()),
            FieldId::FileDerivedFrom => text(self.derived_from()),
            FieldId::FileClass => text(self.any_file_class()),
            FieldId::WeightsDerivedBytes => {
                let account = self.workload.map(|workload| &workload.account);
                super::facts::int(account.map(|account| account.derived_bytes))
            }
            FieldId::WeightsOnlyDerived => {
                let account = self.workload.map(|workload| &workload.account);
                super::facts::truth(account.map(super::account::Account::has_only_copies))
            }
            _ => Value::Missing,
        }
    }
}
