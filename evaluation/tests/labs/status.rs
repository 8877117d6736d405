//! The status page and the metrics of a running bond, beside what the wires and iperf3 counted.
//!
//! ```text
//! client -- local == wan0: 10 Mbit/s, 10 ms == internet -- remote
//!                 == wan1:  6 Mbit/s, 15 ms ==          -- server
//!             |
//!         status page 127.0.0.1:8475 <- Prometheus 127.0.0.1:9090, Chromium
//! ```

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use evaluation::browser::{Browser, Screen};
use evaluation::http;
use evaluation::iperf::Iperf;
use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::netns::Namespace;
use evaluation::portal::{Pair, PairOptions};
use evaluation::traffic::Traffic;
use evaluation::wait::until;
use evaluation::wan::Direction;
use serde_json::Value;

const PAGE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8475);
const PROMETHEUS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);

/// Headers of a full TCP packet over IPv4 with timestamps, bytes.
const HEADERS: f64 = 52.0;

fn bond(lab: &Lab) -> Pair<'_> {
    let options = PairOptions { host_lines: vec![format!("Status = {PAGE}")], ..PairOptions::default() };
    Pair::start_connected(lab, &options).unwrap()
}

fn two_links() -> Lab {
    Lab::new(&[LinkSpec::mbit(10.0).delay_ms(10.0), LinkSpec::mbit(6.0).delay_ms(15.0)]).unwrap()
}

fn metrics(namespace: &Namespace) -> String {
    http::get(namespace, PAGE, "/metrics").unwrap()
}

/// The value of the one series of `name` with all of these labels.
fn value(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let series = |line: &&str| {
        line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
    };
    let mut found = metrics.lines().filter(series);
    let line = found.next().unwrap_or_else(|| panic!("no {name} {labels:?} in\n{metrics}"));
    assert_eq!(found.next(), None, "{name} {labels:?} twice");
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

fn near(what: &str, measured: f64, counted: f64, tolerance: f64) {
    let ratio = measured / counted;
    println!("{what}: {measured:.0} of {counted:.0}, {:+.2} %", 1e2 * (ratio - 1.0));
    assert!((ratio - 1.0).abs() <= tolerance, "{what}: {measured} against {counted}");
}

#[test]
fn metrics_agree_with_the_wires_and_with_iperf() {
    if !may_build_labs("the status page") {
        return;
    }
    let lab = two_links();
    let pair = bond(&lab);
    let wires = || [0, 1].map(|link| lab.wire(link).counters(Direction::Down).bytes);
    let (before, wires_before) = (metrics(lab.local()), wires());
    let iperf = Iperf::tcp(6).parallel(4).reverse();
    let (report, during) = std::thread::scope(|scope| {
        let run = scope.spawn(|| iperf.run(&lab));
        // As a browser and a scraper read, only more often; the figures of the time between 2 and 5 s are compared.
        std::thread::sleep(Duration::from_secs(2));
        let mut during = vec![metrics(lab.local())];
        for _ in 0..15 {
            std::thread::sleep(Duration::from_millis(200));
            for path in ["/", "/live", "/status.json"] {
                http::get(lab.local(), PAGE, path).unwrap();
            }
            during.push(metrics(lab.local()));
        }
        (run.join().unwrap().unwrap(), during)
    });
    // What was on the way when iperf3 ended arrives, or is given up.
    std::thread::sleep(Duration::from_millis(500));
    let (after, wires_after) = (metrics(lab.local()), wires());
    // 0.3 % on a quiet machine; on a busy one the kernel drops some of what the wire has delivered.
    for link in 0..2 {
        let label = format!("link=\"link{link}\"");
        let received = grown(&before, &after, "netcombiner_link_received_bytes_total", &[&label]);
        near(&label, received, (wires_after[link] - wires_before[link]) as f64, 0.05);
    }
    let steady = |name| grown(&during[0], &during[15], name, &[]);
    let payload =
        steady("netcombiner_received_bytes_total") - HEADERS * steady("netcombiner_received_packets_total");
    let rate = 8.0 * payload / steady("netcombiner_uptime_seconds");
    let intervals = report.intervals.iter().filter(|interval| interval.start >= 2.0 && interval.end <= 5.0);
    let (bytes, time) = intervals.fold((0, 0.0), |(bytes, time), interval| {
        (bytes + interval.bytes, time + interval.end - interval.start)
    });
    // 2 % on a quiet machine; the two windows are some 100 ms apart, in which a busy one may stand still.
    near("iperf3", rate, 8.0 * bytes as f64 / time, 0.2);
    pair.stop().unwrap();
}

/// By how much a series has grown.
fn grown(before: &str, after: &str, name: &str, labels: &[&str]) -> f64 {
    value(after, name, labels) - value(before, name, labels)
}

#[test]
fn a_reload_moves_the_page() {
    if !may_build_labs("moving the status page") {
        return;
    }
    let lab = two_links();
    let mut pair = bond(&lab);
    let config = pair.configs()[0].clone();
    let moved = SocketAddr::new(PAGE.ip(), 8476);
    pair.local().unwrap().reload(&config.replace(":8475", ":8476")).unwrap();
    let answers = |address| http::get(lab.local(), address, "/").is_ok();
    until(Duration::from_secs(10), "the page elsewhere", || Ok(answers(moved))).unwrap();
    assert!(!answers(PAGE), "the old place still answers");
    pair.local().unwrap().reload(&config.replace(&format!("Status = {PAGE}"), "Status = off")).unwrap();
    until(Duration::from_secs(10), "no page", || Ok(!answers(moved))).unwrap();
    pair.stop().unwrap();
}

#[test]
fn a_browser_shows_all_of_it_on_every_screen_and_without_scripts() {
    if !may_build_labs("the page in a browser") {
        return;
    }
    if !is_installed("chromedriver") {
        eprintln!("SKIPPED: the page in a browser: chromedriver (Debian: chromium-driver) is not installed");
        return;
    }
    let lab = two_links();
    let pair = bond(&lab);
    let traffic = Traffic::with_streams(&lab, Family::V4, 2).unwrap();
    let browser = Browser::start(lab.local(), &lab.directory().join("browser")).unwrap();
    let url = format!("http://{PAGE}/");
    browser.open(&url).unwrap();
    let texts = |selector: &str| {
        let all = format!("[...document.querySelectorAll('{selector}')]");
        let script = format!("return {all}.map(e => e.innerText.replaceAll('\\u00a0', ' '))");
        serde_json::from_value::<Vec<String>>(browser.run(&script).unwrap()).unwrap()
    };
    // All and two links, each with two directions, each of these with a line and what is below it.
    let drawn = "return document.querySelectorAll('.graph path:not(.grid)').length";
    until(Duration::from_secs(20), "graphs", || Ok(browser.run(drawn)? == 12)).unwrap();
    until(Duration::from_secs(20), "rates of both links both ways", || {
        let rates = texts("tbody .rate");
        Ok(rates.len() == 4 && rates.iter().all(|rate| rate.ends_with("bit/s") && rate != "0 bit/s"))
    })
    .unwrap();
    for (screen, dark) in [Screen::PHONE, Screen::DESKTOP].into_iter().flat_map(|s| [(s, false), (s, true)]) {
        browser.set_screen(Screen { dark, ..screen }).unwrap();
        let wide = "return [document.documentElement.scrollWidth, innerWidth]";
        let [content, room]: [u32; 2] = serde_json::from_value(browser.run(wide).unwrap()).unwrap();
        assert!(content <= room && room == screen.width, "{content} pixels of {room}");
        let ground = "return getComputedStyle(document.body).backgroundColor";
        let expected = if dark { "rgb(17, 20, 23)" } else { "rgb(244, 245, 247)" };
        assert_eq!(browser.run(ground).unwrap(), expected);
        assert_eq!(texts("tbody th"), ["link0\nwan0, UDP", "link1\nwan1, UDP"]);
        assert_eq!(texts("tbody .state"), ["up", "up"]);
    }
    let complaints = browser.complaints().unwrap();
    assert!(complaints.is_empty(), "{complaints:?}");
    browser.allow_scripts(false).unwrap();
    browser.open(&url).unwrap();
    assert_eq!(texts("tbody th"), ["link0\nwan0, UDP", "link1\nwan1, UDP"]);
    assert_eq!(texts("tbody .state"), ["up", "up"]);
    assert!(texts("header p")[0].starts_with("bonded, 2 of 2 links carry"), "{:?}", texts("header p"));
    assert_eq!(browser.run("return document.querySelectorAll('svg').length").unwrap(), 0);
    drop((browser, traffic));
    pair.stop().unwrap();
}

#[test]
fn prometheus_scrapes_what_promtool_approves_and_knows_every_alert() {
    if !may_build_labs("Prometheus") {
        return;
    }
    if !is_installed("promtool") || !is_installed("prometheus") {
        eprintln!("SKIPPED: Prometheus: prometheus and promtool are not installed");
        return;
    }
    let lab = two_links();
    let pair = bond(&lab);
    let text = metrics(lab.local());
    promtool(&["check", "metrics"], &text);
    let rules = examples().join("netcombiner.rules.yml");
    promtool(&["check", "rules", &rules.to_string_lossy()], "");
    let config = lab.directory().join("prometheus.yml");
    let example = fs::read_to_string(examples().join("prometheus.yml")).unwrap();
    let example = example.replace("scrape_interval: 15s", "scrape_interval: 1s");
    fs::write(&config, example.replace("netcombiner.rules.yml", &rules.to_string_lossy())).unwrap();
    let mut prometheus = start_prometheus(&lab, &config);
    until(Duration::from_secs(30), "the links in Prometheus", || {
        Ok(query(&lab, "netcombiner_link_up == 1").is_some_and(|found| found.len() == 2))
    })
    .unwrap();
    let links = query(&lab, "netcombiner_link_info").unwrap();
    let names: Vec<&str> = links.iter().filter_map(|link| link["metric"]["link"].as_str()).collect();
    assert_eq!(names, ["link0", "link1"]);
    for expression in dashboard_expressions() {
        let found = query(&lab, &expression).unwrap_or_else(|| panic!("Prometheus refuses {expression}"));
        let is_bare =
            !expression.contains("rate(") && !expression.contains("delay") && !expression.contains("hold");
        assert!(!is_bare || !found.is_empty(), "nothing is found by {expression}");
    }
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
    pair.stop().unwrap();
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config-examples/monitoring").canonicalize().unwrap()
}

fn is_installed(program: &str) -> bool {
    let tried = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// Runs promtool on `input`; any complaint fails the test.
fn promtool(arguments: &[&str], input: &str) {
    use std::io::Write;
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "promtool {arguments:?}: {said}\n{input}");
}

fn start_prometheus(lab: &Lab, config: &Path) -> std::process::Child {
    let mut command = lab.local().command("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", lab.directory().join("prometheus").display()));
    command.arg(format!("--web.listen-address={PROMETHEUS}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// What Prometheus finds; `None` if it does not answer or does not understand.
fn query(lab: &Lab, expression: &str) -> Option<Vec<Value>> {
    let escaped: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = http::get(lab.local(), PROMETHEUS, &format!("/api/v1/query?query={escaped}")).ok()?;
    let answer: Value = serde_json::from_str(&answer).ok()?;
    answer["data"]["result"].as_array().cloned()
}

/// Every expression of the dashboard, its variables filled in.
fn dashboard_expressions() -> Vec<String> {
    let text = fs::read_to_string(examples().join("grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions = targets.map(|target| target["expr"].as_str().unwrap());
    let filled = expressions.map(|text| {
        text.replace("$__rate_interval", "10s").replace("$interface", ".*").replace("$instance", ".*")
    });
    let filled: Vec<String> = filled.collect();
    assert!(filled.len() > 10);
    filled
}
