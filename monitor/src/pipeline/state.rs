//! Long windows on disk: a day's worth of counted bytes must survive a restart of the daemon.

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::correlate::{Engine as Correlator, Snapshot};
use crate::enrich::{BudgetSnapshot, Enricher, LabelChange, LabelSnapshot};

/// Bytes of a state file that are read at most: some 4 096 keys of a kilobyte each.
pub(super) const STATE_BYTES_MAX: u64 = 64 << 20;
/// Name of the file of windows.
const WINDOWS: &str = "windows.json";
/// Name of the file of bytes sent against budgets.
const BUDGETS: &str = "budgets.json";
/// Name of the file of labels.
const LABELS: &str = "labels.json";

/// Where the state of long windows is kept.
#[derive(Debug)]
pub(super) struct WindowStore {
    dir: PathBuf,
    boot_id: String,
    /// Revision of the labels that were saved last.
    labels: Cell<u64>,
}

impl WindowStore {
    /// Keeps state in `dir`.
    pub(super) fn new(dir: &Path, boot_id: &str) -> Self {
        Self { dir: dir.to_owned(), boot_id: boot_id.to_owned(), labels: Cell::new(0) }
    }

    /// Takes back what was saved. Without a file there is nothing to take back; one that cannot be
    /// read is said and left behind.
    ///
    /// Returns the labels that the kernel side must follow.
    pub(super) fn load(
        &self,
        correlator: &mut Correlator,
        enricher: &mut Enricher,
    ) -> Vec<LabelChange> {
        if let Some(snapshot) = self.take::<Snapshot>(WINDOWS) {
            match correlator.restore(snapshot, &self.boot_id) {
                Ok(restored) => tracing::info!(?restored, "long windows go on where they were"),
                Err(error) => tracing::info!(%error, "long windows start anew"),
            }
        }
        if let Some(snapshot) = self.take::<BudgetSnapshot>(BUDGETS) {
            let budgets = enricher.restore_budgets(snapshot, &self.boot_id);
            tracing::info!(budgets, "budgets go on where they were");
        }
        let labels = self.take::<LabelSnapshot>(LABELS).unwrap_or_default();
        let changes = enricher.restore_labels(labels);
        self.labels.set(enricher.label_revision());
        if !changes.is_empty() {
            tracing::info!(labels = changes.len(), "labels go on where they were");
        }
        changes
    }

    fn take<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.dir.join(name);
        read(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), error, "saved state is not used");
            None
        })
    }

    /// Saves what long windows hold and what was sent against budgets: written beside the old file,
    /// then put in its place.
    pub(super) fn save(&self, correlator: &Correlator, enricher: &Enricher) {
        self.put(WINDOWS, &correlator.snapshot(&self.boot_id));
        self.put(BUDGETS, &enricher.budget_snapshot(&self.boot_id));
        let revision = enricher.label_revision();
        if self.labels.replace(revision) != revision {
            self.put(LABELS, &enricher.label_snapshot());
        }
    }

    fn put(&self, name: &str, snapshot: &impl Serialize) {
        let path = self.dir.join(name);
        if let Err(error) = write(&path, snapshot) {
            tracing::warn!(path = %path.display(), %error, "state was not saved");
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let length = match fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if length > STATE_BYTES_MAX {
        return Err(format!("{length} bytes, at most {STATE_BYTES_MAX} are read"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string())
}

fn write(path: &Path, snapshot: &impl Serialize) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let new = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(snapshot)?)?;
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::CorrelateLimits;
    use crate::enrich::{EnrichConfig, NoProfiles, NoSource};
    use crate::model::Clock;

    fn enricher() -> Enricher {
        let config = EnrichConfig::default();
        let profiles = std::sync::Arc::new(NoProfiles);
        Enricher::new(&config, profiles, Clock::default(), Box::new(NoSource))
    }

    #[test]
    fn what_is_saved_is_read_back_and_damage_is_left_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = WindowStore::new(&dir.path().join("state"), "boot");
        assert!(store.take::<Snapshot>(WINDOWS).is_none(), "no file is no error");
        let mut correlator = Correlator::new(&[], CorrelateLimits::default());
        store.save(&correlator, &enricher());
        assert!(store.take::<Snapshot>(WINDOWS).is_some());
        assert!(store.take::<BudgetSnapshot>(BUDGETS).is_some());
        fs::write(store.dir.join(WINDOWS), b"{").expect("writes");
        assert!(read::<Snapshot>(&store.dir.join(WINDOWS)).is_err());
        store.load(&mut correlator, &mut enricher());
    }
}
