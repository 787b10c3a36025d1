//! A running pipeline: started, listened to, and taken down completely, each within a bounded time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ::gstreamer as gst;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use gst::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks};

use super::super::SourceError;
use super::build::{Built, Delivery};
use super::fault::{Missing, Report};
use super::http::ContentType;
use super::witness::Witness;
use crate::clock::SharedClock;
use crate::shown::redact;

/// Longest wait for a pipeline to come down; an element that hangs for longer is left behind.
const TEARDOWN: Duration = Duration::from_secs(5);
/// How often taking a pipeline down is tried before it is given up.
const STOPS: usize = 20;
/// Messages kept at most while nobody listens; the first ones tell the cause.
const MESSAGES: usize = 16;

/// What a pipeline reports.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// It cannot go on.
    Failed(Report),
    /// A decoder or similar element is not installed.
    Missing(Missing),
    /// The stream is over, and its last frame was delivered.
    Ended,
}

/// A started pipeline. Dropping it takes it down.
pub(super) struct Running {
    pipeline: gst::Pipeline,
    sink: AppSink,
    clock: SharedClock,
    what: String,
    samples: Receiver<gst::Sample>,
    events: Receiver<Event>,
    started: Receiver<Start>,
    overwritten: Arc<AtomicU64>,
    witness: Witness,
    network: bool,
    content: ContentType,
    /// The thread that starts the pipeline, and the flag that it is no longer wanted.
    starter: Option<JoinHandle<()>>,
    closing: Arc<AtomicBool>,
}

/// How starting went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A live pipeline: its sender sets the pace.
    Live,
    /// It plays by a clock, as a file does.
    Paced,
    /// It refused; an error message says why.
    Refused,
}

impl Running {
    /// Starts the pipeline. Nothing here waits for it: connecting may take long.
    ///
    /// # Errors
    /// When the OS cannot start a thread.
    pub fn start(
        built: Built,
        delivery: Delivery,
        what: String,
        clock: SharedClock,
    ) -> Result<Self, SourceError> {
        let Built { pipeline, sink, own_sink, witness, live, network, content } = built;
        let (sample_tx, samples) = bounded(1);
        let (event_tx, events) = bounded(MESSAGES);
        let (start_tx, started) = bounded(1);
        let overwritten = Arc::new(AtomicU64::new(0));
        deliver(&sink, delivery, sample_tx, samples.clone(), overwritten.clone());
        pipeline.bus().expect("a pipeline has a bus").set_sync_handler(move |_, message| {
            listen(message, &event_tx);
            gst::BusSyncReply::Drop
        });
        let closing = Arc::new(AtomicBool::new(false));
        let mut running = Self {
            pipeline: pipeline.clone(),
            sink: sink.clone(),
            clock,
            what,
            samples,
            events,
            started,
            overwritten,
            witness,
            network,
            content,
            starter: None,
            closing: closing.clone(),
        };
        let starter = thread::Builder::new()
            .name("gst start".into())
            .spawn(move || {
                let start = match pipeline.set_state(gst::State::Paused) {
                    Err(_) => Start::Refused,
                    Ok(gst::StateChangeSuccess::NoPreroll) => Start::Live,
                    Ok(_) if live => Start::Live,
                    Ok(_) => Start::Paced,
                };
                // A live frame is wanted as soon as it arrives; a file should play in real time.
                if delivery == Delivery::Latest && !own_sink {
                    sink.set_sync(start == Start::Paced);
                }
                let plays = start != Start::Refused
                    && !closing.load(Ordering::Acquire)
                    && pipeline.set_state(gst::State::Playing).is_ok();
                let _ = start_tx.send(if plays { start } else { Start::Refused });
            })
            .map_err(|e| SourceError::Retry(format!("cannot start a thread: {e}")))?;
        running.starter = Some(starter);
        Ok(running)
    }

    /// Frames as they come; of [`Delivery::Latest`] only the newest.
    pub fn samples(&self) -> &Receiver<gst::Sample> {
        &self.samples
    }

    /// What the pipeline reports.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// One message, once the pipeline has started.
    pub fn started(&self) -> &Receiver<Start> {
        &self.started
    }

    /// Whether frames come over a network, so that one without a timestamp is as old as its
    /// arrival.
    pub(crate) fn is_network(&self) -> bool {
        self.network
    }

    /// Whether it states how long it is: a clip does, a camera does not.
    pub(crate) fn has_end(&self) -> bool {
        self.pipeline.query_duration::<gst::ClockTime>().is_some()
    }

    /// What a web server calls the content.
    pub fn content_type(&self) -> Option<String> {
        self.content.get()
    }

    /// Frames that were overwritten by newer ones since the last call.
    pub fn overwritten(&self) -> u64 {
        self.overwritten.swap(0, Ordering::Relaxed)
    }

    /// What it reports besides its frames.
    pub(crate) fn witness(&self) -> &Witness {
        &self.witness
    }

    /// When the sample is due by the pipeline's running time.
    pub(crate) fn running_time(sample: &gst::Sample) -> Option<Duration> {
        let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
        let time = segment.to_running_time(sample.buffer()?.pts()?)?;
        Some(time.into())
    }

    /// Where the sample lies in its stream.
    pub(crate) fn stream_time(sample: &gst::Sample) -> Option<Duration> {
        let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
        let time = segment.to_stream_time(sample.buffer()?.pts()?)?;
        Some(time.into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A callback that waits for room in the channel must not block the pipeline.
        let (_, closed) = bounded(0);
        self.samples = closed;
        self.sink.set_callbacks(AppSinkCallbacks::builder().build());
        let (done_tx, done) = bounded::<()>(0);
        let pipeline = self.pipeline.clone();
        self.closing.store(true, Ordering::Release);
        let starter = self.starter.take();
        let spawned = thread::Builder::new().name("gst stop".into()).spawn(move || {
            // A start that came after the stop would leave the pipeline running.
            if let Some(starter) = starter {
                let _ = starter.join();
            }
            // It fails while an element reports an error of its own, and then half of the elements
            // stay up.
            let down = (0..STOPS).any(|_| pipeline.set_state(gst::State::Null).is_ok());
            if !down {
                log::error!("{}: the pipeline cannot be taken down", pipeline.name());
            }
            if let Some(bus) = pipeline.bus() {
                bus.unset_sync_handler();
            }
            drop(done_tx);
        });
        if let Err(e) = spawned {
            log::error!("{}: cannot start a thread to close it: {e}", self.what);
            let _ = self.pipeline.set_state(gst::State::Null);
            return;
        }
        let timer = self.clock.after(TEARDOWN);
        select! {
            recv(done) -> _ => {}
            recv(timer) -> _ => log::error!(
                "{}: an element of its pipeline does not stop; it is left behind after {} s",
                self.what, TEARDOWN.as_secs()
            ),
        }
    }
}

/// Makes the sink hand over each sample as it comes.
fn deliver(
    sink: &AppSink,
    delivery: Delivery,
    tx: Sender<gst::Sample>,
    rx: Receiver<gst::Sample>,
    overwritten: Arc<AtomicU64>,
) {
    // Only an overwriting sink needs the receiver; held elsewhere, it would keep the channel open.
    let rx = (delivery == Delivery::Latest).then_some(rx);
    let deliver = move |sink: &AppSink| {
        let mut sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let Some(rx) = &rx else {
            return tx.send(sample).map(|()| gst::FlowSuccess::Ok).map_err(|_| gst::FlowError::Eos);
        };
        while let Err(TrySendError::Full(back)) = tx.try_send(sample) {
            sample = back;
            overwritten.fetch_add(u64::from(rx.try_recv().is_ok()), Ordering::Relaxed);
        }
        Ok(gst::FlowSuccess::Ok)
    };
    sink.set_callbacks(AppSinkCallbacks::builder().new_sample(deliver).build());
}

/// Keeps what matters in a bus message. Runs on the thread that posts it, so it never waits.
fn listen(message: &gst::Message, tx: &Sender<Event>) {
    let event = match message.view() {
        gst::MessageView::Error(e) => {
            let from = message.src().and_then(|s| s.downcast_ref::<gst::Element>()?.factory());
            let from = from.map(|factory| factory.name().to_string());
            Event::Failed(Report { error: e.error(), debug: e.debug().map(|d| d.to_string()), from })
        }
        gst::MessageView::Eos(_) => Event::Ended,
        gst::MessageView::Element(e) => match e.structure() {
            Some(s) if s.name() == "missing-plugin" => {
                let detail = s.get::<gst::Caps>("detail").ok();
                let media = detail.and_then(|caps| caps.structure(0).map(|s| s.name().to_string()));
                let name = s.get::<String>("name").unwrap_or_else(|_| "a plug-in".into());
                Event::Missing(Missing { name, media })
            }
            _ => return,
        },
        gst::MessageView::Warning(w) => {
            log::debug!("GStreamer warns: {}", redact(&format!("{} {:?}", w.error(), w.debug())));
            return;
        }
        _ => return,
    };
    let _ = tx.try_send(event);
}
