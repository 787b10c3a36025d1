//! The running publishers: the broker's, webhooks, the page, the file of metrics. Each can be replaced while the others go
//! on; its cursor is on disk, so nothing is lost in between.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;

use super::join;
use crate::clock::{SharedClock, Stop, StopHandle, stop_signal};
use crate::config::Config;
use crate::control::Controls;
use crate::detector::Detector;
use crate::flaglog::Tail;
use crate::health::metrics::{self, Metrics};
use crate::health::{Board, MetricsConfig};
use crate::publish::mqtt::MqttConfig;
use crate::publish::webhook::WebhookConfig;
use crate::verdict::Limits;
use crate::web::WebConfig;
#[cfg(feature = "web")]
use crate::web::{Facts, WebError};

/// One that runs, with what it was started for: when that changes, another takes its place.
struct Running<For> {
    with: For,
    threads: Vec<JoinHandle<()>>,
    stop: StopHandle,
}

impl<For> Running<For> {
    /// Starts one.
    fn start(
        with: For,
        start: impl FnOnce(&For, Stop) -> anyhow::Result<Vec<JoinHandle<()>>>,
    ) -> anyhow::Result<Self> {
        let (handle, stop) = stop_signal();
        let threads = start(&with, stop)?;
        Ok(Self { with, threads, stop: handle })
    }

    /// Ends it; false if one of its threads had panicked.
    fn end(self) -> bool {
        self.stop.stop();
        self.threads.into_iter().map(join).fold(true, |well, one| well & one)
    }
}

/// The broker, and the sources that are announced there.
type ForMqtt = (MqttConfig, Vec<Arc<str>>);

/// All that run.
#[allow(dead_code, reason = "a build without some of the publishers does not read all of it")]
pub(super) struct Publishers {
    pub node: String,
    pub log: Tail,
    pub board: Board,
    pub controls: Controls,
    pub clock: SharedClock,
    mqtt: Option<Running<ForMqtt>>,
    webhooks: Vec<Running<WebhookConfig>>,
    page: Option<Running<(WebConfig, Limits)>>,
    metrics: Option<Running<MetricsConfig>>,
    /// Where the page is served, if it is.
    pub address: Option<String>,
}

impl Publishers {
    /// None yet.
    pub fn new(node: String, log: Tail, board: Board, controls: Controls, clock: SharedClock) -> Self {
        let (mqtt, page, metrics) = (None, None, None);
        Self { node, log, board, controls, clock, mqtt, webhooks: Vec::new(), page, metrics, address: None }
    }

    /// Whether what can be known beforehand of a configuration's publishers is well.
    ///
    /// # Errors
    /// Certificates or keys cannot be used, or another program has the page's port.
    pub fn check(&self, config: &Config) -> anyhow::Result<()> {
        #[cfg(feature = "mqtt")]
        if let Some(mqtt) = &config.mqtt {
            crate::publish::mqtt::check(mqtt).context("MQTT")?;
        }
        #[cfg(feature = "webhook")]
        for webhook in &config.webhooks {
            crate::publish::webhook::Client::new(webhook, self.clock.clone())?;
        }
        #[cfg(feature = "web")]
        if let Some(web) = &config.web {
            let ours = self.page.as_ref().is_some_and(|page| page.with.0.listen == web.listen);
            crate::web::try_out(web, &self.clock)?;
            if !ours && web.chosen {
                let listen = web.listen;
                std::net::TcpListener::bind(listen).map_err(|source| WebError::Listen { listen, source })?;
            }
        }
        let _ = config;
        Ok(())
    }

    /// Ends those that a configuration does not have, or not so, or that were made for other sources.
    pub fn end_others(&mut self, config: &Config, ids: &[Arc<str>], limits: Limits) {
        let for_mqtt = config.mqtt.clone().map(|mqtt| (mqtt, ids.to_vec()));
        if let Some(mqtt) = self.mqtt.take_if(|mqtt| Some(&mqtt.with) != for_mqtt.as_ref()) {
            mqtt.end();
            if config.mqtt.is_none() {
                #[cfg(feature = "mqtt")]
                self.board.forget_publisher(crate::publish::mqtt::NAME);
            }
        }
        let (stay, go) = std::mem::take(&mut self.webhooks)
            .into_iter()
            .partition(|hook| config.webhooks.contains(&hook.with));
        self.webhooks = stay;
        for hook in go {
            let name = hook.with.name.clone();
            hook.end();
            if !config.webhooks.iter().any(|other| other.name == name) {
                self.board.forget_publisher(&name);
            }
        }
        let for_page = config.web.clone().map(|web| (web, limits));
        if let Some(page) = self.page.take_if(|page| Some(&page.with) != for_page.as_ref()) {
            page.end();
            self.address = None;
        }
        if let Some(metrics) = self.metrics.take_if(|metrics| Some(&metrics.with) != config.metrics.as_ref())
        {
            metrics.end();
        }
    }

    /// Starts those of a configuration that do not run.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn start_missing(
        &mut self,
        config: &Config,
        ids: &[Arc<str>],
        detector: &Detector,
    ) -> anyhow::Result<()> {
        if let (None, Some(mqtt)) = (&self.mqtt, &config.mqtt) {
            let start = |with: &ForMqtt, stop| self.spawn_mqtt(&with.0, stop);
            self.mqtt = Some(Running::start((mqtt.clone(), ids.to_vec()), start)?);
        }
        for webhook in &config.webhooks {
            if !self.webhooks.iter().any(|hook| hook.with == *webhook) {
                let running = Running::start(webhook.clone(), |with, stop| self.spawn_webhook(with, stop))?;
                self.webhooks.push(running);
            }
        }
        if let (None, Some(web)) = (&self.page, &config.web) {
            let mut address = None;
            let start =
                |with: &(WebConfig, Limits), stop| self.spawn_page(&with.0, detector, stop, &mut address);
            self.page = Some(Running::start((web.clone(), detector.limits()), start)?);
            self.address = address;
        }
        if let (None, Some(wanted)) = (&self.metrics, &config.metrics) {
            let start = |with: &MetricsConfig, stop| {
                let metrics = Metrics { board: self.board.clone(), node: self.node.clone() };
                let thread = metrics::spawn(with.clone(), metrics, self.clock.clone(), stop);
                thread.context("metrics").map(|thread| vec![thread])
            };
            self.metrics = Some(Running::start(wanted.clone(), start)?);
        }
        Ok(())
    }

    /// Ends all; false if a thread had panicked.
    pub fn end(self) -> bool {
        // All are told before the first is waited for.
        let all = [
            self.mqtt.map(|r| (r.stop, r.threads)),
            self.page.map(|r| (r.stop, r.threads)),
            self.metrics.map(|r| (r.stop, r.threads)),
        ];
        let hooks = self.webhooks.into_iter().map(|r| (r.stop, r.threads));
        let all: Vec<_> = all.into_iter().flatten().chain(hooks).collect();
        all.iter().for_each(|(stop, _)| stop.stop());
        all.into_iter().flat_map(|(_, threads)| threads).map(join).fold(true, |well, one| well & one)
    }

    #[cfg(feature = "mqtt")]
    fn spawn_mqtt(&self, mqtt: &MqttConfig, stop: Stop) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let (board, controls) = (self.board.clone(), self.controls.clone());
        let clock = self.clock.clone();
        let spawned =
            crate::publish::mqtt::spawn(mqtt.clone(), &self.node, &self.log, board, controls, clock, stop);
        Ok(vec![spawned.context("MQTT")?])
    }

    #[cfg(not(feature = "mqtt"))]
    fn spawn_mqtt(&self, _: &MqttConfig, _: Stop) -> anyhow::Result<Vec<JoinHandle<()>>> {
        anyhow::bail!("[mqtt] is configured, but this spotd was built without MQTT")
    }

    #[cfg(feature = "webhook")]
    fn spawn_webhook(&self, webhook: &WebhookConfig, stop: Stop) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let (board, clock) = (self.board.clone(), self.clock.clone());
        Ok(vec![crate::publish::webhook::spawn(webhook.clone(), &self.log, board, clock, stop)?])
    }

    #[cfg(not(feature = "webhook"))]
    fn spawn_webhook(&self, _: &WebhookConfig, _: Stop) -> anyhow::Result<Vec<JoinHandle<()>>> {
        anyhow::bail!("[[webhook]] is configured, but this spotd was built without webhooks")
    }

    /// Starts to serve the operator's page, and says where.
    #[cfg(feature = "web")]
    fn spawn_page(
        &self,
        web: &WebConfig,
        detector: &Detector,
        stop: Stop,
        address: &mut Option<String>,
    ) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let (board, controls) = (self.board.clone(), self.controls.clone());
        let (clock, node) = (self.clock.clone(), self.node.clone());
        let facts = Facts { node, model: detector.identity(), limits: detector.limits() };
        match crate::web::spawn(web.clone(), facts, &self.log, board, controls, clock, stop) {
            Ok(served) => {
                *address = Some(served.address);
                Ok(served.threads)
            }
            Err(error @ WebError::Listen { .. }) if !web.chosen => {
                log::warn!("{error}");
                Ok(Vec::new())
            }
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(feature = "web"))]
    fn spawn_page(
        &self,
        web: &WebConfig,
        _: &Detector,
        _: Stop,
        _: &mut Option<String>,
    ) -> anyhow::Result<Vec<JoinHandle<()>>> {
        anyhow::ensure!(!web.chosen, "[web] is configured, but this spotd was built without the page");
        Ok(Vec::new())
    }
}
