//! What is there at start: weight files are labelled, their directories watched, and who holds them
//! already is told.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::engine::{Engine, Tally, inode_key};
use super::{Control, PipelineError, spawn};
use crate::config::Config;
use crate::enrich::{self, Found, HeldFiles, Procfs, ScanProgress};
use crate::model::Tgid;

/// How long the monitor is not ready because files in the places that globs name are not labelled
/// yet, or who holds them is not known: what their holders send meanwhile counts, and nobody knows
/// of what. Most hosts take milliseconds; what takes longer is done beside everything else.
pub(super) const LABELS_WAIT: Duration = Duration::from_secs(2);
/// How often a scan that takes long says so.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Looks for weight files beside everything else: a large store must not delay the start. Says when
/// the places that globs name were looked through.
pub(super) fn start(
    config: &Config,
    control: &SyncSender<Control>,
) -> Result<Receiver<()>, PipelineError> {
    let (watch, control) = (config.watch.clone(), control.clone());
    let (named, is_named) = sync_channel(1);
    spawn("label-scan", move || {
        let most = monitor_common::WATCH_DIRS_MAX as usize;
        let mut told = Instant::now();
        let mut files = HeldFiles::new();
        let progress = enrich::scan(&watch, most, &mut |found, progress| {
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                let (entries, files) = (progress.entries, progress.files);
                tracing::info!(entries, files, "still looking for weight files");
            }
            if let Found::File(seed) = &found {
                enrich::note_held(&mut files, seed);
            }
            if found != Found::Named {
                return control.send(Control::Found(found)).is_ok();
            }
            let is_heard = find_held(&control, &std::mem::take(&mut files));
            // Whoever waits has room for one, or waits no longer.
            let _told = named.try_send(());
            is_heard
        });
        if !find_held(&control, &files) || control.send(Control::Scanned(progress)).is_err() {
            tracing::debug!("the monitor ended before the scan for weight files did");
        }
    })?;
    Ok(is_named)
}

/// Tells who holds these files already. Returns whether anybody listens.
fn find_held(control: &SyncSender<Control>, files: &HeldFiles) -> bool {
    let (began, mut is_heard) = (Instant::now(), true);
    enrich::find_held(&Procfs::default(), files, &mut |held| {
        is_heard &= control.send(Control::Held(held)).is_ok();
    });
    tracing::debug!(files = files.len(), took = ?began.elapsed(), "who holds weights is known");
    is_heard
}

impl Engine {
    /// Takes in what the scan at start found.
    pub(super) fn take_scanned(&mut self, found: &Found) {
        match found {
            Found::File(seed) => {
                let changes = self.stages.enricher.label(seed);
                self.apply_labels(&changes, Tgid(std::process::id()));
            }
            Found::Directory(id) => {
                let is_kept = self.stages.maps.watch_directory(inode_key(*id));
                if is_kept {
                    self.stages.pushdown.paths.keep(inode_key(*id));
                }
                self.tally.directories_refused += u64::from(!is_kept);
            }
            Found::Named => {}
        }
    }
}

/// Says what the scan at start came to.
pub(super) fn report(progress: &ScanProgress, tally: &Tally) {
    let ScanProgress { entries, files, directories, unreadable, truncated, is_broad_cut } =
        *progress;
    let refused = tally.directories_refused;
    if truncated || refused > 0 {
        tracing::warn!(
            entries,
            files,
            directories,
            refused,
            "the scan for weight files ended at its bound; raise `watch.scan_files_max` or name \
             fewer or narrower globs in `watch`"
        );
    } else {
        tracing::info!(entries, files, directories, unreadable, "weight files were labelled");
    }
    if is_broad_cut {
        tracing::info!(
            "globs that begin with `**` were looked for in a part of this host only; weights \
             elsewhere are labelled when they are opened"
        );
    }
}
