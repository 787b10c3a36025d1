//! An image, or a folder of images, as a source: one after the other at the configured rate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Ended, FrameSink, Source, SourceError};
use crate::clock::{Moment, SharedClock, Stop};
use crate::frame::Captured;
use crate::frame::picture::{self, PictureError};
use crate::shown::Shown as _;

/// Whether there is a folder or a picture at `path`. Where videos can be read, their reader gets
/// what may be one: a pipe, whose content cannot be inspected beforehand, and JPEG data in a file
/// that is not named as a JPEG image.
pub fn shows(path: &Path) -> bool {
    match path.metadata() {
        Ok(meta) if meta.is_dir() => true,
        Ok(meta) if cfg!(feature = "gstreamer") => {
            meta.is_file() && (picture::is_named(path) || picture::begins(path) == Some(false))
        }
        Ok(meta) => !meta.is_file() || picture::holds(path),
        Err(_) => picture::is_named(path),
    }
}

/// Images shown one after the other, ordered by name.
pub struct FilesSource {
    path: PathBuf,
    period: Duration,
    clock: SharedClock,
    /// Whether the folder's other files have been logged.
    told: bool,
}

impl FilesSource {
    /// Shows `path`, an image or a folder of them, at `fps` images a second (greater than 0).
    pub fn new(path: PathBuf, fps: f64, clock: SharedClock) -> Self {
        Self { path, period: Duration::from_secs_f64(1.0 / fps), clock, told: false }
    }

    fn list(&mut self) -> Result<Vec<PathBuf>, SourceError> {
        let shown = self.path.shown();
        if !self.path.is_dir() {
            return match self.path.metadata() {
                Ok(_) => Ok(vec![self.path.clone()]),
                Err(e) => {
                    Err(SourceError::Configuration(format!("cannot open {shown}: {e}; check the path")))
                }
            };
        }
        let entries = std::fs::read_dir(&self.path).map_err(|e| {
            SourceError::Configuration(format!("cannot list the folder {shown}: {e}; check its permissions"))
        })?;
        let files = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| !p.is_dir());
        let (mut images, mut others): (Vec<_>, Vec<_>) = files.partition(|p| picture::holds(p));
        images.sort();
        others.sort();
        if images.is_empty() {
            return Err(SourceError::Configuration(format!("the folder {shown} holds no image")));
        }
        if !others.is_empty() && !std::mem::replace(&mut self.told, true) {
            let names = picture::some_names(&others);
            log::warn!("{shown}: {} files are not images and are skipped: {names}", others.len());
        }
        Ok(images)
    }
}

impl Source for FilesSource {
    fn run_once(&mut self, sink: &dyn FrameSink, stop: &Stop) -> Result<Ended, SourceError> {
        let mut unreadable: Option<String> = None;
        let images = self.list()?;
        let mut show = Show::new(sink, stop, &self.clock, self.period);
        for path in &images {
            match picture::read(path).and_then(|bytes| show.all(&bytes)) {
                Ok(true) => {}
                Ok(false) => return Ok(Ended::Stopped),
                Err(e) => {
                    log::warn!("{} is not shown: {e}", path.shown());
                    sink.lost("unreadable");
                    unreadable.get_or_insert(e.to_string());
                }
            }
        }
        if let (0, Some(why)) = (show.shown, unreadable) {
            let shown = self.path.shown();
            return Err(SourceError::Configuration(match images.len() {
                1 => format!("{shown} cannot be read: {why}"),
                all => format!("none of the {all} images in {shown} can be read; the first: {why}"),
            }));
        }
        // The last image is shown for a full period too, so that a single image that is repeated
        // keeps its rate.
        Ok(if show.rest() { Ended::EndOfStream } else { Ended::Stopped })
    }

    fn describe(&self) -> String {
        format!("images {}", self.path.shown())
    }
}

/// Shows pictures at a constant rate.
pub(super) struct Show<'a> {
    sink: &'a dyn FrameSink,
    stop: &'a Stop,
    clock: &'a SharedClock,
    period: Duration,
    due: Moment,
    /// Pictures shown so far.
    pub shown: u64,
}

impl<'a> Show<'a> {
    /// One picture every `period`, the first at once.
    pub fn new(sink: &'a dyn FrameSink, stop: &'a Stop, clock: &'a SharedClock, period: Duration) -> Self {
        Self { sink, stop, clock, period, due: clock.now(), shown: 0 }
    }

    /// Shows every picture in a file's bytes; false when stopped.
    ///
    /// # Errors
    /// It is not a picture, or one of its pictures is truncated or damaged; those before it have
    /// been shown.
    pub fn all(&mut self, bytes: &[u8]) -> Result<bool, PictureError> {
        for shot in picture::shots(bytes)? {
            let shot = shot?;
            if !self.rest() {
                return Ok(false);
            }
            // Every image is wanted: the rate is set here.
            self.sink.offer(Captured::rgb(self.clock.wall(), shot.image));
            self.due += self.period;
            self.shown += 1;
        }
        Ok(true)
    }

    /// Waits until the next picture is due; false when stopped.
    pub fn rest(&self) -> bool {
        self.stop.wait(&**self.clock, self.due.saturating_sub(self.clock.now()))
    }

    /// Waits for one more period, for a picture that was shown elsewhere; false when stopped.
    #[cfg(feature = "gstreamer")]
    pub fn pause(&mut self) -> bool {
        self.due += self.period;
        self.rest()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;

    use image::RgbImage;

    use super::*;
    use crate::clock::{Clock, ManualClock, stop_signal};

    #[derive(Default)]
    struct Kept {
        /// First byte and time of each frame.
        frames: Mutex<Vec<(u8, Duration)>>,
        lost: Mutex<BTreeMap<&'static str, u32>>,
    }

    impl FrameSink for Kept {
        fn source(&self) -> Arc<str> {
            "files".into()
        }
        fn wants_frame(&self) -> bool {
            true
        }
        fn offer(&self, captured: Captured) {
            let since = captured.at.duration_since(SystemTime::UNIX_EPOCH).expect("the clock begins there");
            self.frames.lock().expect("lock").push(((*captured.data).as_ref()[0], since));
        }
        fn lost(&self, reason: &'static str) {
            *self.lost.lock().expect("lock").entry(reason).or_default() += 1;
        }
    }

    fn save(folder: &Path, name: &str, value: u8) {
        RgbImage::from_pixel(4, 4, image::Rgb([value; 3])).save(folder.join(name)).expect("saved");
    }

    /// Runs the source to its end, moving the clock whenever it waits.
    fn play(path: &Path) -> (Result<Ended, SourceError>, Kept) {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let mut source = FilesSource::new(path.into(), 2.0, Arc::new(clock.clone()));
        let kept = Kept::default();
        let (_handle, stop) = stop_signal();
        let result = std::thread::scope(|scope| {
            let run = scope.spawn(|| source.run_once(&kept, &stop));
            while !run.is_finished() {
                if clock.waiting() > 0 {
                    clock.advance(Duration::from_millis(500));
                }
                std::thread::yield_now();
            }
            run.join().expect("no panic")
        });
        (result, kept)
    }

    #[test]
    fn a_folder_is_shown_in_order_and_at_its_rate() {
        let dir = tempfile::tempdir().expect("folder");
        save(dir.path(), "b.png", 20);
        save(dir.path(), "a.PNG", 10);
        save(dir.path(), "c.bmp", 30);
        std::fs::write(dir.path().join("b2.jpg"), b"not an image").expect("written");
        std::fs::write(dir.path().join("notes.txt"), b"not asked").expect("written");
        let (result, kept) = play(dir.path());
        assert_eq!(result.expect("ends"), Ended::EndOfStream);
        let frames = kept.frames.into_inner().expect("lock");
        let at = |half: u64| Duration::from_millis(500 * half);
        assert_eq!(frames, [(10, at(0)), (20, at(1)), (30, at(2))]);
        assert_eq!(kept.lost.into_inner().expect("lock"), BTreeMap::from([("unreadable", 1)]));
    }

    #[test]
    fn what_cannot_be_shown_is_named() {
        let dir = tempfile::tempdir().expect("folder");
        for (path, word) in [(dir.path().join("gone.png"), "gone.png"), (dir.path().into(), "holds no image")]
        {
            let (result, _) = play(&path);
            match result {
                Err(SourceError::Configuration(why)) => assert!(why.contains(word), "{why}"),
                other => panic!("{other:?}"),
            }
        }
        let cut = dir.path().join("cut.png");
        save(dir.path(), "cut.png", 1);
        let bytes = std::fs::read(&cut).expect("read");
        std::fs::write(&cut, &bytes[..bytes.len() / 2]).expect("written");
        let (result, kept) = play(&cut);
        assert!(matches!(result, Err(SourceError::Configuration(_))), "{result:?}");
        assert_eq!(kept.lost.into_inner().expect("lock")["unreadable"], 1);
    }

    #[test]
    fn the_stop_signal_ends_the_wait_between_images() {
        let dir = tempfile::tempdir().expect("folder");
        save(dir.path(), "a.png", 10);
        save(dir.path(), "b.png", 20);
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
        let mut source = FilesSource::new(dir.path().into(), 0.01, Arc::new(clock.clone()));
        let (handle, stop) = stop_signal();
        let kept = Kept::default();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| source.run_once(&kept, &stop));
            while clock.waiting() == 0 {
                std::thread::yield_now();
            }
            handle.stop();
            assert_eq!(run.join().expect("no panic").expect("no error"), Ended::Stopped);
        });
        assert_eq!(clock.now(), Duration::ZERO);
        assert_eq!(kept.frames.into_inner().expect("lock").len(), 1);
    }
}
