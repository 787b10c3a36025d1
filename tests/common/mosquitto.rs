//! A real mosquitto for tests, on a free port of the loopback, and a subscriber that collects what
//! it is sent.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, Incoming, MqttOptions, QoS};
use tempfile::TempDir;

/// Limit for waits, which usually end early; generous, for busy machines.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A port of the loopback that nobody listens on now.
#[allow(dead_code)]
pub fn free_port() -> u16 {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    free.local_addr().expect("its address").port()
}

/// A broker that ends with this value.
pub struct Broker {
    port: u16,
    dir: TempDir,
    child: Option<Child>,
    /// Files that its configuration names.
    extra: Option<TempDir>,
}

#[allow(dead_code)]
impl Broker {
    /// A broker that accepts anybody.
    pub fn start() -> Self {
        Self::run("allow_anonymous true\n")
    }

    /// A broker that requires this user and password.
    pub fn with_password(user: &str, password: &str) -> Self {
        // The file has to exist before the broker has its own folder.
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("passwords");
        let made = Command::new(find("mosquitto_passwd"))
            .args(["-b", "-c"])
            .arg(&file)
            .args([user, password])
            .output();
        let made = made.expect("mosquitto_passwd starts");
        assert!(made.status.success(), "mosquitto_passwd: {}", String::from_utf8_lossy(&made.stderr));
        let mut broker = Self::run(&format!("allow_anonymous false\npassword_file {}\n", file.display()));
        broker.extra = Some(dir);
        broker
    }

    /// A broker with these lines in its configuration, which name files in `dir`.
    pub fn with_files(dir: TempDir, settings: &str) -> Self {
        let mut broker = Self::run(settings);
        broker.extra = Some(dir);
        broker
    }

    /// A broker with these lines in its configuration.
    pub fn run(settings: &str) -> Self {
        for _ in 0..5 {
            let mut broker = Self::prepare(settings);
            match broker.launch() {
                Ok(()) => return broker,
                // Another process was faster to bind the port.
                Err(log) if log.contains("in use") => {}
                Err(log) => panic!("mosquitto does not run: {log}"),
            }
        }
        panic!("no port stayed free for mosquitto");
    }

    /// A broker that is configured and has its port, but is not running yet.
    pub fn prepare(settings: &str) -> Self {
        let broker =
            Self { port: free_port(), dir: tempfile::tempdir().expect("tempdir"), child: None, extra: None };
        broker.configure(settings);
        broker
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process, if it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Has it write what it holds to its disk (with `persistence true`), and returns when it has.
    pub fn save(&self) {
        let file = self.dir.path().join("mosquitto.db");
        let written = || std::fs::metadata(&file).and_then(|m| m.modified()).ok();
        let (before, end) = (written(), Instant::now() + PATIENCE);
        let pid = self.id().expect("it runs").to_string();
        let asked = Command::new("kill").args(["-USR1", &pid]).status();
        assert!(asked.expect("kill starts").success());
        while written() == before {
            assert!(Instant::now() < end, "mosquitto saves nothing");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts it, ending one that is running; returns when it accepts connections.
    pub fn restart(&mut self) {
        self.stop();
        if let Err(log) = self.launch() {
            panic!("mosquitto does not run: {log}");
        }
    }

    fn launch(&mut self) -> Result<(), String> {
        let log = std::fs::File::create(self.dir.path().join("log")).expect("log file");
        let child = Command::new(find("mosquitto"))
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log)
            .spawn()
            .expect("mosquitto starts");
        let child = self.child.insert(child);
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if child.try_wait().expect("wait").is_some() || Instant::now() > end {
                return Err(std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Kills it.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it as a service manager would: with `persistence true` it keeps what it has
    /// acknowledged.
    pub fn terminate(&mut self) {
        if let Some(mut child) = self.child.take() {
            let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            assert!(sent.expect("kill starts").success());
            let _ = child.wait();
        }
    }

    fn configure(&self, settings: &str) {
        let user = Command::new("id").arg("-un").output().expect("id").stdout;
        let mut file = std::fs::File::create(self.dir.path().join("mosquitto.conf")).expect("configuration");
        // Started by root it would switch to another user, who may not read this folder.
        let (dir, user) = (self.dir.path().display(), String::from_utf8_lossy(&user));
        write!(
            file,
            "listener {} 127.0.0.1\nuser {}\npersistence_location {dir}/\nmax_queued_messages 0\n{settings}",
            self.port,
            user.trim()
        )
        .expect("write");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One of mosquitto's programs.
pub fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/opt/homebrew/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|dir| dir.join(program))
        .find(|p| p.is_file())
        .unwrap_or_else(|| panic!("{program} is not installed; `make test` installs it (packages mosquitto and mosquitto-clients)"))
}

/// What a subscriber was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub topic: String,
    /// As text; invalid UTF-8 is replaced.
    pub payload: String,
    pub bytes: Vec<u8>,
    /// Whether it was retained from before.
    pub retain: bool,
}

/// A client that collects everything on some topics.
pub struct Subscriber {
    got: Arc<Mutex<Vec<Message>>>,
    /// How often the broker has confirmed the subscription.
    confirmed: Arc<AtomicUsize>,
    client: Client,
}

#[allow(dead_code)]
impl Subscriber {
    /// Subscribes to `filter`; returns when the broker has confirmed that.
    pub fn start(port: u16, filter: &str) -> Self {
        Self::with_login(port, filter, None)
    }

    /// The same with user and password.
    pub fn with_login(port: u16, filter: &str, login: Option<(&str, &str)>) -> Self {
        Self::open(port, filter, (QoS::AtLeastOnce, None), login, |_| {})
    }

    /// One that acknowledges nothing. A client that writes into a connection whose broker has just
    /// died loses what had arrived but was not read yet; one that only reads, reads to the end.
    pub fn reading(port: u16, filter: &str) -> Self {
        Self::open(port, filter, (QoS::AtMostOnce, None), None, |_| {})
    }

    /// One that only reads, like [`Self::reading`], reports each message, and whose session of this name outlasts its
    /// connection: a broker with `queue_qos0_messages true` keeps for it what comes meanwhile.
    pub fn lasting(port: u16, filter: &str, session: &str, tell: impl Fn(&Message) + Send + 'static) -> Self {
        Self::open(port, filter, (QoS::AtMostOnce, Some(session)), None, tell)
    }

    /// One that also reports each message when it arrives.
    pub fn telling(port: u16, filter: &str, tell: impl Fn(&Message) + Send + 'static) -> Self {
        Self::open(port, filter, (QoS::AtLeastOnce, None), None, tell)
    }

    fn open(
        port: u16,
        filter: &str,
        (qos, session): (QoS, Option<&str>),
        login: Option<(&str, &str)>,
        tell: impl Fn(&Message) + Send + 'static,
    ) -> Self {
        let id = session.map_or_else(|| format!("test-{}", ulid::Ulid::new()), str::to_owned);
        let mut options = MqttOptions::new(id, "127.0.0.1", port);
        options.set_clean_session(session.is_none());
        options.set_max_packet_size(8 << 20, 8 << 20).set_keep_alive(Duration::from_secs(30));
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (client, mut connection) = Client::new(options, 16);
        let got = Arc::new(Mutex::new(Vec::new()));
        let (ready, is_ready) = crossbeam_channel::bounded(1);
        let (filter, sink, subscribe) = (filter.to_owned(), got.clone(), client.clone());
        let confirmed = Arc::new(AtomicUsize::new(0));
        let count = confirmed.clone();
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                        let _ = subscribe.try_subscribe(filter.clone(), qos);
                    }
                    Ok(Event::Incoming(Incoming::SubAck(_))) => {
                        count.fetch_add(1, Ordering::SeqCst);
                        let _ = ready.try_send(());
                    }
                    Ok(Event::Incoming(Incoming::Publish(p))) => {
                        let payload = String::from_utf8_lossy(&p.payload).into_owned();
                        let bytes = p.payload.to_vec();
                        let message = Message { topic: p.topic, payload, bytes, retain: p.retain };
                        tell(&message);
                        sink.lock().expect("lock").push(message);
                    }
                    Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
                    Ok(_) => {}
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        });
        is_ready.recv_timeout(PATIENCE).expect("the broker confirms the subscription");
        Self { got, confirmed, client }
    }

    /// How often the broker has confirmed the subscription: once a connection.
    pub fn confirmed(&self) -> usize {
        self.confirmed.load(Ordering::SeqCst)
    }

    /// Sends something itself.
    pub fn publish(&self, topic: &str, retain: bool, payload: &[u8]) {
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).expect("queued");
    }

    /// Number of messages so far.
    pub fn count(&self) -> usize {
        self.got.lock().expect("lock").len()
    }

    /// Messages so far.
    pub fn messages(&self) -> Vec<Message> {
        self.got.lock().expect("lock").clone()
    }

    /// Waits until the messages satisfy `enough`, and returns them.
    ///
    /// # Panics
    /// If they do not within [`PATIENCE`].
    pub fn wait(&self, what: &str, enough: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        let end = Instant::now() + PATIENCE;
        loop {
            let got = self.messages();
            if enough(&got) {
                return got;
            }
            assert!(Instant::now() < end, "{what} did not come; {} messages did: {got:#?}", got.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
    }
}
