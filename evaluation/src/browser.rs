//! A real browser without a screen, in a namespace, steered by WebDriver (`chromedriver`).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::http;
use crate::netns::Namespace;
use crate::process::Started;
use crate::wait::until;

/// Where the driver listens, in the namespace.
pub(crate) const DRIVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9515);

/// How long driver and browser may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A screen to look at a page with.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// CSS pixels.
    pub width: u32,
    /// CSS pixels.
    pub height: u32,
    /// As phones have it: touched, and of more pixels.
    pub mobile: bool,
    /// The reader prefers dark pages.
    pub dark: bool,
}

impl Screen {
    /// A phone held upright.
    pub const PHONE: Self = Self { width: 390, height: 844, mobile: true, dark: false };
    /// A screen on a desk.
    pub const DESKTOP: Self = Self { width: 1280, height: 1000, mobile: false, dark: false };
}

/// The browser; it ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    namespace: Namespace,
    session: String,
    _driver: Started,
}

impl Browser {
    /// Starts one. `profile` is a directory for its files.
    pub fn start(namespace: &Namespace, profile: &Path) -> Result<Self> {
        let mut command = namespace.quiet_command("chromedriver");
        command.arg(format!("--port={}", DRIVER.port())).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = Started(command.spawn().context("starting chromedriver")?);
        until(PATIENCE, "chromedriver", || Ok(http::get(namespace, DRIVER, "/status").is_ok()))?;
        let profile = format!("--user-data-dir={}", profile.display());
        let options = json!({ "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", profile] });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let answer = send(namespace, "POST", "/session", &wanted)?;
        let session = answer["sessionId"].as_str().context("no session")?.to_owned();
        Ok(Self { namespace: namespace.clone(), session, _driver: driver })
    }

    /// Changes the screen.
    pub fn set_screen(&self, screen: Screen) -> Result<()> {
        let metrics = json!({
            "width": screen.width,
            "height": screen.height,
            "deviceScaleFactor": if screen.mobile { 2 } else { 1 },
            "mobile": screen.mobile,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)?;
        let scheme = if screen.dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [feature] }))
    }

    /// Whether pages may run scripts, from the next one on.
    pub fn allow_scripts(&self, allowed: bool) -> Result<()> {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": !allowed }))
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&self, url: &str) -> Result<()> {
        self.command("POST", "url", json!({ "url": url })).map(drop)
    }

    /// What a script, which ends in `return …`, gives.
    pub fn run(&self, script: &str) -> Result<Value> {
        self.command("POST", "execute/sync", json!({ "script": script, "args": [] }))
    }

    /// Everything that the browser complained of since it was asked last: faults of scripts, what a policy refused.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let log = self.command("POST", "se/log", json!({ "type": "browser" }))?;
        let entries = log.as_array().context("no log")?.iter();
        Ok(entries.filter_map(|entry| entry["message"].as_str().map(str::to_owned)).collect())
    }

    /// The screen as a PNG.
    pub fn screenshot(&self) -> Result<Vec<u8>> {
        let picture = self.command("GET", "screenshot", Value::Null)?;
        Ok(STANDARD.decode(picture.as_str().context("no picture")?)?)
    }

    fn devtools(&self, command: &str, parameters: Value) -> Result<()> {
        let order = json!({ "cmd": command, "params": parameters });
        self.command("POST", "goog/cdp/execute", order).map(drop)
    }

    fn command(&self, method: &str, path: &str, body: Value) -> Result<Value> {
        send(&self.namespace, method, &format!("/session/{}/{path}", self.session), &body)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver takes the browser along; if it does not answer, both end with their namespace's processes.
        let _ = self.command("DELETE", "window", Value::Null);
    }
}

fn send(namespace: &Namespace, method: &str, path: &str, body: &Value) -> Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer: Value = serde_json::from_str(&http::ask(namespace, DRIVER, method, path, &body)?)?;
    ensure!(answer["value"]["error"].is_null(), "the browser refuses {path}: {answer}");
    Ok(answer["value"].clone())
}
