//! `evaluation screenshots`: the status page of a bond under load, as phones and desktops show it, light and dark.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use evaluation::browser::{Browser, Screen};
use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::portal::{Pair, PairOptions};
use evaluation::traffic::Traffic;

/// Where the local portal serves its page.
const PAGE: &str = "127.0.0.1:8475";

/// A long one, which holds all links.
const PHONE: Screen = Screen { height: 1500, ..Screen::PHONE };
const TABLET: Screen = Screen { width: 820, height: 1180, mobile: false, dark: false };

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Directory for the pictures.
    #[arg(long, default_value = "target/evaluation/screenshots")]
    to: PathBuf,
    /// Seconds of traffic that the graphs show.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    fs::create_dir_all(&arguments.to)?;
    let links =
        [LinkSpec::mbit(24.0).delay_ms(15.0), LinkSpec::mbit(16.0).delay_ms(25.0), LinkSpec::mbit(5.0)];
    let lab = Lab::new(&links)?;
    let options = PairOptions { host_lines: vec![format!("Status = {PAGE}")], ..PairOptions::default() };
    let pair = Pair::start_connected(&lab, &options)?;
    let traffic = Traffic::with_streams(&lab, Family::V4, 4)?;
    let browser = Browser::start(lab.local(), &lab.directory().join("browser"))?;
    browser.open(&format!("http://{PAGE}/"))?;
    sleep(Duration::from_secs(arguments.seconds / 2));
    lab.wire(2).carrier(false)?;
    sleep(Duration::from_secs(arguments.seconds / 2));
    for (name, screen) in [("phone", PHONE), ("tablet", TABLET), ("desktop", Screen::DESKTOP)] {
        for (manner, dark) in [("light", false), ("dark", true)] {
            browser.set_screen(Screen { dark, ..screen })?;
            take(&browser, arguments, &format!("{name}-{manner}"))?;
        }
    }
    let wide = browser.run("return document.documentElement.scrollWidth > innerWidth")?;
    let drawn = browser.run("return document.querySelectorAll('.graph path:not(.grid)').length")?;
    let complaints = browser.complaints()?;
    ensure!(complaints.is_empty(), "the browser complains: {complaints:?}");
    ensure!(wide == false && drawn.as_u64() >= Some(8), "too wide: {wide}; lines drawn: {drawn}");
    browser.allow_scripts(false)?;
    browser.open(&format!("http://{PAGE}/"))?;
    take(&browser, arguments, "desktop-without-scripts")?;
    drop((browser, traffic));
    pair.stop()?;
    Ok(ExitCode::SUCCESS)
}

fn take(browser: &Browser, arguments: &Arguments, name: &str) -> Result<()> {
    let file = arguments.to.join(format!("{name}.png"));
    fs::write(&file, browser.screenshot()?)?;
    println!("{}", file.display());
    Ok(())
}
