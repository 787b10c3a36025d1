//! An RTSP server in the test's own process, which can be killed and started again on its port.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use gstreamer::prelude::*;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;
use rtsp::glib;

use super::wait_for;

/// A server of one or more streams, on 127.0.0.1.
pub struct RtspServer {
    port: u16,
    mounts: Vec<(String, String)>,
    login: Option<(String, String)>,
    /// The last media that it created to serve a stream.
    media: Arc<Mutex<Option<gstreamer::Element>>>,
    teardowns: Arc<AtomicUsize>,
    running: Option<Running>,
}

struct Running {
    server: rtsp::RTSPServer,
    main_loop: glib::MainLoop,
    source: Option<glib::SourceId>,
    thread: JoinHandle<()>,
}

impl RtspServer {
    /// Serves at `/live` what `pipeline` encodes (its text up to the encoder or parser) and
    /// `payloader` packs, on a free port.
    pub fn new(pipeline: &str, payloader: &str) -> Self {
        Self::with(&[("/live", pipeline, payloader)], None)
    }

    /// Several streams, with a user name and password that they require.
    pub fn with(streams: &[(&str, &str, &str)], login: Option<(&str, &str)>) -> Self {
        gstreamer::init().expect("GStreamer");
        let mounts = streams
            .iter()
            .map(|(path, pipeline, payloader)| {
                ((*path).into(), format!("( {pipeline} ! {payloader} name=pay0 pt=96 )"))
            })
            .collect();
        let login = login.map(|(user, password)| (user.into(), password.into()));
        let (media, teardowns) = Default::default();
        let mut server = Self { port: 0, mounts, login, media, teardowns, running: None };
        server.start();
        server
    }

    /// The address of a stream.
    pub fn url(&self, path: &str) -> String {
        format!("rtsp://127.0.0.1:{}{path}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// An element, by its name, of the stream that is being served.
    pub fn element(&self, name: &str) -> gstreamer::Element {
        let media = self.media.lock().expect("lock").clone().expect("a stream is served");
        media.downcast::<gstreamer::Bin>().expect("a bin").by_name(name).expect("an element of that name")
    }

    /// How often a client sent TEARDOWN.
    pub fn teardowns(&self) -> usize {
        self.teardowns.load(Ordering::SeqCst)
    }

    /// Starts serving, on the same port as before.
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "runs already");
        let server = rtsp::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service(&self.port.to_string());
        let mounts = server.mount_points().expect("mount points");
        for (path, launch) in &self.mounts {
            let factory = rtsp::RTSPMediaFactory::new();
            factory.set_launch(launch);
            factory.set_shared(true);
            let media = self.media.clone();
            factory.connect_media_configure(move |_, made| {
                *media.lock().expect("lock") = Some(made.element());
            });
            if let Some((user, _)) = &self.login {
                let role = gstreamer::Structure::builder(user.as_str())
                    .field("media.factory.access", true)
                    .field("media.factory.construct", true)
                    .build();
                factory.add_role_from_structure(&role);
            }
            mounts.add_factory(path, factory);
        }
        if let Some((user, password)) = &self.login {
            let auth = rtsp::RTSPAuth::new();
            let token = rtsp::RTSPToken::builder().field("media.factory.role", user.as_str()).build();
            auth.add_basic(&rtsp::RTSPAuth::make_basic(user, password), &token);
            server.set_auth(Some(&auth));
        }
        let teardowns = self.teardowns.clone();
        server.connect_client_connected(move |_, client| {
            let teardowns = teardowns.clone();
            client.connect_teardown_request(move |_, _| {
                teardowns.fetch_add(1, Ordering::SeqCst);
            });
        });
        let context = glib::MainContext::new();
        // The port of a server that was killed just now may take a moment to be free.
        let source = wait_for("the port of the RTSP server", || server.attach(Some(&context)).ok());
        self.port = u16::try_from(server.bound_port()).expect("a port");
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let thread = std::thread::spawn({
            let main_loop = main_loop.clone();
            move || {
                let context = main_loop.context();
                context.with_thread_default(|| main_loop.run()).expect("own context");
            }
        });
        self.running = Some(Running { server, main_loop, source: Some(source), thread });
    }

    /// Kills it: connections are cut, the port is closed.
    pub fn kill(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        if let Some(id) = running.source.take()
            && let Some(source) = running.main_loop.context().find_source_by_id(&id)
        {
            source.destroy();
        }
        running.server.client_filter(Some(&mut |_, client| {
            client.close();
            rtsp::RTSPFilterResult::Remove
        }));
        if let Some(pool) = running.server.session_pool() {
            pool.filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Remove));
        }
        running.main_loop.quit();
        running.thread.join().expect("the server's thread");
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        self.kill();
    }
}
