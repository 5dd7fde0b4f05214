//! Labels over a restart of the daemon: what was saved holds for a file that is still the same.

use serde::{Deserialize, Serialize};

use super::content::Format;
use super::enricher::Enricher;
use super::label::LabelChange;
use super::limit::LABELS_SAVED_MAX;
use crate::model::{FileId, Tgid};

/// One label as it is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedLabel {
    device: u32,
    inode: u64,
    generation: u32,
    path: String,
    size_bytes: u64,
    modified_ns: u64,
    format: String,
    model: String,
    root: String,
    derived: bool,
}

/// Labels as they are saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelSnapshot {
    labels: Vec<SavedLabel>,
}

impl Enricher {
    /// Number of changes of labels so far: what was saved at a number need not be saved again.
    pub fn label_revision(&self) -> u64 {
        self.labels.revision
    }

    /// The labels of files that can be found by their path now, the latest used first; bounded.
    pub fn label_snapshot(&self) -> LabelSnapshot {
        let own = Tgid(std::process::id());
        let labels = self.labels.newest_first().filter_map(|(id, file)| {
            let found = self.source.stat(own, &file.path)?;
            let model = self.labels.model(file.label)?;
            (found.inode == id.inode).then(|| SavedLabel {
                device: id.device,
                inode: id.inode,
                generation: id.generation,
                path: file.path.to_string(),
                size_bytes: found.size_bytes,
                modified_ns: found.modified_ns,
                format: file.format.as_str().to_owned(),
                model: model.name.clone(),
                root: model.root.clone(),
                derived: file.is_derived,
            })
        });
        LabelSnapshot { labels: labels.take(LABELS_SAVED_MAX).collect() }
    }

    /// Takes labels back. A file that has another inode, size or time of change by now is another,
    /// and is left for the scan and for who opens it.
    pub fn restore_labels(&mut self, snapshot: LabelSnapshot) -> Vec<LabelChange> {
        let own = Tgid(std::process::id());
        let mut changes = Vec::new();
        for saved in snapshot.labels.into_iter().take(LABELS_SAVED_MAX).rev() {
            let found = self.source.stat(own, &saved.path);
            let is_same = found.is_some_and(|file| {
                (file.inode, file.size_bytes, file.modified_ns)
                    == (saved.inode, saved.size_bytes, saved.modified_ns)
            });
            if !is_same {
                continue;
            }
            let id =
                FileId { device: saved.device, inode: saved.inode, generation: saved.generation };
            let format = Format::from_str(&saved.format);
            let model = (saved.root.as_str(), saved.model.as_str());
            let (path, size) = (saved.path.as_str(), saved.size_bytes);
            self.labels.restore(id, model, path, size, format, saved.derived, &mut changes);
        }
        changes
    }
}
