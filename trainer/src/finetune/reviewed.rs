//! What operators have said of the events of a flag log, as new pictures: see `--log`.

use crate::fit::data::{self, Sample};
use anyhow::{Context as _, Result, ensure};
use spotd::flaglog::{Finding, OsFs, fs::Fs, record::EvidenceFile, review::reviewed};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Copies the tiles of events that were judged, or the frame where no tile was kept, into `out`, so that the log may
/// remove them meanwhile: to train on, and held out, an event as a whole. Tiles come from the frame as it was, pixel for
/// pixel, and in a picture of which only a part is generated it is there.
///
/// # Errors
/// The log cannot be read, has no such pictures, or they cannot be written.
pub(super) fn reviewed_pictures(dir: &Path, out: &Path, hold_out: f64) -> Result<(Vec<Sample>, Vec<Sample>)> {
    let shown = dir.display();
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    let events = reviewed(&fs, dir).with_context(|| shown.to_string())?;
    ensure!(
        !events.is_empty(),
        "{shown}: nobody has judged any event of this log; do so on the operator's page"
    );
    let (mut train, mut held) = (Vec::new(), Vec::new());
    let mut without = 0;
    for event in &events {
        let fake = event.finding == Finding::Confirmed;
        let folder = out.join(if fake { "confirmed" } else { "false-alarms" });
        std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        // By its name, so that an event stays held out when others come.
        let list = if data::held_out(Path::new(&event.event.to_string()), hold_out) {
            &mut held
        } else {
            &mut train
        };
        let before = list.len();
        for record in &event.records {
            let tiles: Vec<&EvidenceFile> = record.files.tiles.iter().map(|t| &t.png).collect();
            let files = if tiles.is_empty() { vec![&record.files.frame] } else { tiles };
            for file in files {
                match file.read_in(&*fs, dir) {
                    Ok(Some(bytes)) => {
                        let path = folder.join(name(event.event, file));
                        std::fs::write(&path, bytes)
                            .with_context(|| format!("{}: cannot be written", path.display()))?;
                        list.push(Sample { path, fake, class: String::new() });
                    }
                    Ok(None) => {}
                    Err(error) => log::warn!("{shown}: event {}: left out: {error}", event.event),
                }
            }
        }
        without += usize::from(list.len() == before);
    }
    ensure!(
        !(train.is_empty() && held.is_empty()),
        "{shown}: of {} event(s) that were judged none has a picture any more; [log] keep_days and the like say how long \
         they are kept",
        events.len()
    );
    log::info!("{shown}: {} judged event(s), {without} of them without a picture", events.len());
    Ok((train, held))
}

fn name(event: impl std::fmt::Display, file: &EvidenceFile) -> PathBuf {
    let kind = if file.file.ends_with(".png") { "png" } else { "jpg" };
    PathBuf::from(format!("{event}-{}.{kind}", &file.sha256.to_string()[..16]))
}
