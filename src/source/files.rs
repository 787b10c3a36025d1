//! An image, or a folder of images, as a source: one after the other at the configured rate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use image::ImageReader;

use super::{Ended, FrameSink, Source, SourceError};
use crate::clock::{SharedClock, Stop};
use crate::frame::Frame;
use crate::shown::Shown as _;

/// Endings of the image files that are read, in lower case.
pub const IMAGE_ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"];

/// Whether the path's ending is that of an image that can be read.
pub fn is_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    IMAGE_ENDINGS.contains(&ending.as_str())
}

/// Images shown one after the other, in the order of their names.
pub struct FilesSource {
    path: PathBuf,
    period: Duration,
    clock: SharedClock,
}

impl FilesSource {
    /// Shows `path`, an image or a folder of them, at `fps` images a second (greater than 0).
    pub fn new(path: PathBuf, fps: f64, clock: SharedClock) -> Self {
        Self { path, period: Duration::from_secs_f64(1.0 / fps), clock }
    }

    fn list(&self) -> Result<Vec<PathBuf>, SourceError> {
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
            SourceError::Configuration(format!("cannot list the folder {shown}: {e}; check its rights"))
        })?;
        let mut images: Vec<_> =
            entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_image(p)).collect();
        images.sort();
        if images.is_empty() {
            let known = IMAGE_ENDINGS.join(", ");
            return Err(SourceError::Configuration(format!("the folder {shown} holds no image ({known})")));
        }
        Ok(images)
    }
}

impl Source for FilesSource {
    fn run_once(&mut self, sink: &dyn FrameSink, stop: &Stop) -> Result<Ended, SourceError> {
        let mut unreadable = 0;
        let images = self.list()?;
        let mut due = self.clock.now();
        for path in &images {
            if !stop.wait(&*self.clock, due.saturating_sub(self.clock.now())) {
                return Ok(Ended::Stopped);
            }
            let decoded = ImageReader::open(path)
                .and_then(ImageReader::with_guessed_format)
                .map_err(image::ImageError::IoError)
                .and_then(ImageReader::decode);
            match decoded {
                // Every image is wanted: the pace is our own.
                Ok(image) => {
                    let (source, captured, arrived) = (sink.source(), self.clock.wall(), self.clock.now());
                    sink.offer(Frame::from_rgb(source, 0, captured, arrived, image.into_rgb8()));
                    due += self.period;
                }
                Err(e) => {
                    unreadable += 1;
                    log::warn!("{} is not shown: {e}", path.shown());
                    sink.lost("unreadable");
                }
            }
        }
        if unreadable == images.len() {
            let shown = self.path.shown();
            return Err(SourceError::Configuration(format!(
                "none of the {unreadable} images in {shown} can be read"
            )));
        }
        // The last image stands for its period too, so that a repeated single image keeps its rate.
        if !stop.wait(&*self.clock, due.saturating_sub(self.clock.now())) {
            return Ok(Ended::Stopped);
        }
        Ok(Ended::EndOfStream)
    }

    fn describe(&self) -> String {
        format!("images {}", self.path.shown())
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
        fn offer(&self, frame: Frame) {
            self.frames.lock().expect("lock").push((frame.bytes()[0], frame.arrived));
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
