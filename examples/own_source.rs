//! A source of one's own: raw video (YUV4MPEG2) from standard input, judged as the daemon judges a camera.
//!
//! ```sh
//! ffmpeg -loglevel error -i clip.mp4 -pix_fmt yuv420p -f yuv4mpegpipe - | cargo run --example own_source
//! ```

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use spotd::clock::{SharedClock, Stop, SystemClock, stop_signal};
use spotd::detector::scoring::Accumulated;
use spotd::detector::{Detector, Model};
use spotd::frame::picture::MAX_PIXELS;
use spotd::frame::{Captured, Colour, Interlacing, PixelFormat, Plane};
use spotd::health::Board;
use spotd::identity::Wanted;
use spotd::source::latest::LatestSink;
use spotd::source::supervise::{Policy, spawn};
use spotd::source::{Ended, FrameSink, Source, SourceError};
use spotd::verdict::{VerdictConfig, VerdictMachine};

/// Plays raw video at its own rate. Opening, reading and closing are all there is to a source: when
/// it is run again after a failure is its supervisor's business.
pub struct RawVideo<R> {
    input: BufReader<R>,
    clock: SharedClock,
}

impl<R: Read + Send> RawVideo<R> {
    /// Reads YUV4MPEG2 with 4:2:0 chroma.
    pub fn new(input: R, clock: SharedClock) -> Self {
        Self { input: BufReader::new(input), clock }
    }

    /// Width, height and frames a second, from a line such as `YUV4MPEG2 W640 H384 F25:1 C420jpeg`.
    fn header(&mut self) -> Result<(u32, u32, f64), SourceError> {
        let mut line = String::new();
        self.input.read_line(&mut line).map_err(|e| SourceError::Retry(format!("standard input: {e}")))?;
        let field = |key: char| line.split_whitespace().skip(1).find_map(|word| word.strip_prefix(key));
        let rate = field('F').and_then(|f| f.split_once(':'));
        let rate = rate.and_then(|(n, d)| Some(n.parse::<f64>().ok()? / d.parse::<f64>().ok()?));
        let size = field('W').zip(field('H')).and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
        let size =
            size.filter(|&(w, h): &(u32, u32)| (1..=MAX_PIXELS).contains(&(u64::from(w) * u64::from(h))));
        let known = line.starts_with("YUV4MPEG2 ") && field('C').is_none_or(|c| c.starts_with("420"));
        match (size, rate) {
            (Some((width, height)), Some(rate)) if known && rate > 0.0 => Ok((width, height, rate)),
            // Trying again will not mend it, so it is no `Retry`.
            _ => Err(SourceError::Configuration("standard input is no YUV4MPEG2 with 4:2:0 chroma".into())),
        }
    }
}

impl<R: Read + Send> Source for RawVideo<R> {
    fn run_once(&mut self, sink: &dyn FrameSink, stop: &Stop) -> Result<Ended, SourceError> {
        let (width, height, rate) = self.header()?;
        let (luma, chroma) = ((width * height) as usize, (width.div_ceil(2) * height.div_ceil(2)) as usize);
        let plane = |offset, width: u32| Plane { offset, stride: width as usize };
        let half = width.div_ceil(2);
        let mut due = self.clock.now();
        loop {
            // Each frame is a line `FRAME` and its three planes.
            let (mut line, mut bytes) = (Vec::new(), vec![0; luma + 2 * chroma]);
            let begun = self.input.read_until(b'\n', &mut line);
            if begun.map_err(|e| SourceError::Retry(format!("standard input: {e}")))? == 0 {
                return Ok(Ended::EndOfStream);
            }
            if self.input.read_exact(&mut bytes).is_err() {
                sink.lost("short");
                return Ok(Ended::EndOfStream);
            }
            // Asked before anything is converted or copied: most frames are not wanted. What is
            // wanted is offered as it came; the detector reads its luma, and turns only the tiles
            // that it judges into RGB.
            if sink.wants_frame() {
                sink.offer(Captured {
                    at: self.clock.wall(),
                    format: PixelFormat::I420,
                    width,
                    height,
                    planes: [plane(0, width), plane(luma, half), plane(luma + chroma, half)],
                    colour: Colour::default(),
                    interlacing: Interlacing::Unsaid,
                    data: Box::new(bytes),
                });
            }
            due += Duration::from_secs_f64(1.0 / rate);
            if !stop.wait(&*self.clock, due.saturating_sub(self.clock.now())) {
                return Ok(Ended::Stopped);
            }
        }
    }

    fn describe(&self) -> String {
        "raw video from standard input".into()
    }
}

/// Watches `source` to its end, judges at most `fps` frames a second, and writes the verdict after
/// each. What became of every frame is on the board that it gives back.
pub fn watch(
    source: impl Source + 'static,
    fps: f64,
    clock: SharedClock,
    out: &mut impl Write,
) -> Result<Board, Box<dyn Error>> {
    let (id, verdict): (Arc<str>, _) = ("raw".into(), VerdictConfig::default());
    let board = Board::new([id.clone()]);
    // Room for one frame: the newest wins, and what it overwrites is counted.
    let (sink, frames) = LatestSink::new(id, fps, board.clone(), clock.clone(), || {});
    // The source runs on a thread of its own, and is over at the end of its input. `stop` would end
    // it earlier.
    let (_stop, stopped) = stop_signal();
    let policy = Policy { endless: false, ..Policy::default() };
    let thread = spawn(Box::new(source), Arc::new(sink), board.clone(), clock.clone(), stopped, policy)?;

    let detector = Detector::new(Model::open(None, Wanted::Auto)?, &verdict, 9);
    let mut accumulated = Accumulated::new(verdict.window);
    let mut machine = VerdictMachine::new(verdict, detector.limits(), Duration::from_secs(60));
    for frame in frames {
        let (number, arrived) = (frame.seq, frame.arrived);
        let score = accumulated.score(&detector, frame)?;
        let outcome = machine.push_frame(arrived, score.score, score.degraded);
        writeln!(out, "frame {number}: score {:.2}, verdict {}", score.score, outcome.verdict)?;
    }
    thread.join().map_err(|_| "the source's thread panicked")?;
    Ok(board)
}

fn main() -> Result<(), Box<dyn Error>> {
    // What the supervisor says of failures and of when it tries again.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let clock = SystemClock::shared();
    watch(RawVideo::new(io::stdin(), clock.clone()), 2.0, clock, &mut io::stdout().lock())?;
    Ok(())
}
