//! A real Chromium, driven over WebDriver by chromedriver. The protocol is JSON over HTTP, so that no client library is
//! needed for the few commands that these tests give: <https://www.w3.org/TR/webdriver2/>.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest wait for anything on the page.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser that ends with this value.
pub struct Browser {
    driver: Child,
    session: String,
    agent: ureq::Agent,
}

impl Browser {
    /// Whether there is one; says loudly when not.
    pub fn is_here() -> bool {
        let here =
            |name: &str| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
        let here = here("chromedriver") && here("chromium");
        if !here {
            println!(
                "\n*** SKIPPED: no chromium or chromedriver here; the page was tried in no browser ***\n"
            );
        }
        here
    }

    /// A window of this size; `dark` as an operator's system may ask for.
    pub fn start(width: u32, height: u32, dark: bool) -> Self {
        let port = crate::common::free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)))
            .build()
            .new_agent();
        let mut browser = Self { driver, session: format!("http://127.0.0.1:{port}"), agent };
        let begun = Instant::now();
        while browser.agent.get(format!("{}/status", browser.session)).call().is_err() {
            assert!(begun.elapsed() < PATIENCE, "chromedriver does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut arguments = vec![
            "--headless=new".to_owned(),
            // Root in a container may not make namespaces.
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            format!("--window-size={width},{height}"),
        ];
        if dark {
            arguments.push("--force-dark-mode".into());
            arguments.push("--blink-settings=preferredColorScheme=0".into());
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        } } });
        let made = browser.post("/session", &wanted);
        browser.session += &format!("/session/{}", made["sessionId"].as_str().expect("a session"));
        if width < 500 {
            // A window is never narrower than its frame; a phone's page is.
            browser.devtools(
                "Emulation.setDeviceMetricsOverride",
                json!({ "width": width, "height": height, "deviceScaleFactor": 2, "mobile": true }),
            );
        }
        browser
    }

    /// Opens a page and waits until it has loaded.
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// What a script returns; `arguments[0]` and so on are those given.
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// What the callback of a script gets, which is its last argument.
    pub fn run_async(&self, script: &str) -> Value {
        self.post("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script returns true.
    pub fn wait(&self, what: &str, script: &str) {
        let begun = Instant::now();
        while self.run(script, &[]) != json!(true) {
            let page = self.run("return document.body.innerText", &[]);
            assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}; the page says {page}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A command of the browser's own protocol.
    pub fn devtools(&self, command: &str, parameters: Value) {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    /// A press of a key, by its name and the text that it gives.
    pub fn key(&self, name: &str, text: &str) {
        let code = if name == " " { "Space" } else { name };
        let number = if name == "Tab" { 9 } else { 32 };
        for kind in ["keyDown", "keyUp"] {
            let mut event =
                json!({ "type": kind, "key": name, "code": code, "windowsVirtualKeyCode": number });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.devtools("Input.dispatchKeyEvent", event);
        }
    }

    /// The window as WebP, in base64.
    pub fn screenshot(&self) -> String {
        let parameters = json!({ "format": "webp", "quality": 80 });
        let command = json!({ "cmd": "Page.captureScreenshot", "params": parameters });
        self.post("/goog/cdp/execute", &command)["data"].as_str().expect("base64").to_owned()
    }

    /// What the page has complained about: errors of its scripts, and what its content policy forbids.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        let severe = log.as_array().expect("a list").iter().filter(|l| l["level"] == "SEVERE");
        severe.map(|l| l["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let request = self.agent.post(url).header("Content-Type", "application/json");
        let mut answer = request.send(body.to_string()).expect("chromedriver answers");
        let text = answer.body_mut().read_to_string().expect("a text");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        assert!(answer["value"]["error"].is_null(), "{path}: {}", answer["value"]);
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; then its driver is ended.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
