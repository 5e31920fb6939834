//! A browser without a window, told what to do by WebDriver.

use std::io::BufRead;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use serde_json::json;

/// Keys, by their numbers in WebDriver.
pub const TAB: char = '\u{E004}';
pub const ENTER: char = '\u{E007}';

/// How long the browser may take for anything.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// A browser. It ends with this value.
pub struct Browser {
    driver: Child,
    address: String,
    session: String,
    agent: ureq::Agent,
}

impl Browser {
    /// Starts one; none: there is none on this machine, and the test is skipped.
    pub fn start() -> Option<Self> {
        let mut command = Command::new("chromedriver");
        let command = command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut driver = match command.spawn() {
            Ok(driver) => driver,
            Err(error) => {
                println!("skipped: there is no chromedriver: {error}");
                return None;
            }
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("ChromeDriver was started successfully on port ")
                .map(|port| port.trim_end_matches('.').to_owned())
        });
        // Whatever else it says must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(WAIT_MAX))
            .build()
            .into();
        let address = format!("http://127.0.0.1:{}", port.expect("the driver says its port"));
        let mut browser = Self { driver, address, session: String::new(), agent };
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let options = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": options } });
        let session = browser.ask("/session", &wanted);
        browser.session = session["sessionId"].as_str().unwrap_or_else(|| panic!("{session}")).to_owned();
        Some(browser)
    }

    fn ask(&self, path: &str, body: &Value) -> Value {
        let mut answer = self.agent.post(format!("{}{path}", self.address)).send_json(body).unwrap();
        let mut answer: Value = answer.body_mut().with_config().limit(64 << 20).read_json().unwrap();
        let value = answer["value"].take();
        assert!(value.get("error").is_none(), "{path}: {value}");
        value
    }

    fn tell(&self, path: &str, body: &Value) -> Value {
        self.ask(&format!("/session/{}{path}", self.session), body)
    }

    fn command(&self, name: &str, parameters: &Value) -> Value {
        self.tell("/goog/cdp/execute", &json!({ "cmd": name, "params": parameters }))
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.tell("/url", &json!({ "url": url }));
    }

    /// What a script returns.
    pub fn value(&self, script: &str) -> Value {
        self.tell("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The window gets this width and these colours.
    pub fn looks_like(&self, width: u32, is_dark: bool) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", &features);
    }

    /// Presses a key and lets it go.
    pub fn press(&self, key: &char) {
        let key = key.to_string();
        let strokes = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] });
        self.tell("/actions", &actions);
    }

    /// Keeps a picture of the whole page in the run folder.
    pub fn picture(&self, name: &str) {
        let wanted = json!({ "captureBeyondViewport": true, "format": "png" });
        let picture = self.command("Page.captureScreenshot", &wanted);
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".run/page");
        std::fs::create_dir_all(&folder).unwrap();
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    /// What the browser has had to complain about, lost connections to nodes that were ended excepted.
    pub fn complaints(&self) -> Vec<Value> {
        let said = self.tell("/se/log", &json!({ "type": "browser" }));
        let is_complaint = |line: &&Value| line["source"] != "network" && line["level"] == "SEVERE";
        said.as_array().unwrap().iter().filter(is_complaint).cloned().collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser first: without its driver nobody would end it.
        if !self.session.is_empty() {
            let _ = self.agent.delete(format!("{}/session/{}", self.address, self.session)).call();
        }
        let id = Pid::from_raw(i32::try_from(self.driver.id()).unwrap());
        let _ = nix::sys::signal::kill(id, Signal::SIGTERM);
        let _ = self.driver.wait();
    }
}
