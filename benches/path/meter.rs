//! Takes the time of steps, and counts their instructions.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Each step is repeated for so long …
const TIME: Duration = Duration::from_millis(300);
/// … after so many repetitions that do not count.
const WARM_UP: usize = 50;
/// Repetitions whose instructions are counted; valgrind is slow.
const COUNTED: usize = 20;

/// Runs steps and prints a line for each.
pub struct Bench {
    wanted: Vec<String>,
    instructions: bool,
    /// The only step of this run, whose instructions valgrind counts.
    counted: Option<String>,
}

/// What one repetition of a step took.
#[derive(Default)]
pub struct Meter {
    spent: Duration,
    packets: usize,
    silent: bool,
}

impl Meter {
    /// Runs what is to be measured.
    pub fn time<R>(&mut self, run: impl FnOnce() -> R) -> R {
        if self.silent {
            return run();
        }
        let begun = Instant::now();
        let result = measured(run);
        self.spent += begun.elapsed();
        result
    }

    /// So many packets went through it.
    pub fn count(&mut self, packets: usize) {
        self.packets += packets;
    }
}

/// What valgrind counts the instructions of, by its name.
#[inline(never)]
fn measured<R>(run: impl FnOnce() -> R) -> R {
    run()
}

impl Bench {
    /// As the arguments say.
    pub fn from_args() -> Self {
        let mut bench = Self { wanted: Vec::new(), instructions: false, counted: None };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match &arg[..] {
                // Cargo's own.
                "--bench" => {}
                "--instructions" => bench.instructions = true,
                "--count" => bench.counted = args.next(),
                _ => bench.wanted.push(arg),
            }
        }
        bench
    }

    /// Prints the head of the table.
    pub fn head(&self) {
        if self.counted.is_none() {
            println!("| step | ns | instructions |\n|---|---:|---:|");
        }
    }

    /// Runs a step. `make` prepares it, and gives what is repeated.
    pub fn step<R: FnMut(&mut Meter)>(&mut self, name: &str, make: impl FnOnce() -> R) {
        if let Some(counted) = &self.counted {
            if counted == name {
                count(make());
            }
            return;
        }
        if let Some(nanos) = self.timed(name, make) {
            println!("| {name} | {nanos:.1} | {} |", self.instructions(name));
        }
    }

    /// Runs a step of the kernel's, whose instructions nobody here can count.
    pub fn kernel_step<R: FnMut(&mut Meter)>(&mut self, name: &str, make: impl FnOnce() -> R) {
        if self.counted.is_none()
            && let Some(nanos) = self.timed(name, make)
        {
            println!("| {name} | {nanos:.1} | |");
        }
    }

    /// Median of the nanoseconds for each packet; `None` if the step is not wanted.
    fn timed<R: FnMut(&mut Meter)>(&self, name: &str, make: impl FnOnce() -> R) -> Option<f64> {
        if !self.wanted.is_empty() && !self.wanted.iter().any(|part| name.contains(part)) {
            return None;
        }
        let mut run = make();
        warm_up(&mut run);
        let (begun, mut samples) = (Instant::now(), Vec::new());
        while begun.elapsed() < TIME {
            let mut meter = Meter::default();
            run(&mut meter);
            assert!(meter.packets > 0, "{name}: nothing went through");
            samples.push(meter.spent.as_nanos() as f64 / meter.packets as f64);
        }
        samples.sort_by(f64::total_cmp);
        Some(samples[samples.len() / 2])
    }

    /// Runs the step again under valgrind, which sees every instruction of [`measured`] and what it calls.
    fn instructions(&self, name: &str) -> String {
        if !self.instructions {
            return String::new();
        }
        let program = std::env::current_exe().expect("this program");
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*measured*"])
            .arg(program)
            .args(["--count", name])
            .stdin(Stdio::null())
            .output();
        let Ok(output) = output else { return "no valgrind".to_owned() };
        let told = |text: &[u8], key: &str| -> Option<f64> {
            let text = String::from_utf8_lossy(text).into_owned();
            text.lines().find_map(|line| line.split_once(key)?.1.trim().parse().ok())
        };
        match (told(&output.stderr, "Collected :"), told(&output.stdout, "packets:")) {
            (Some(instructions), Some(packets)) => format!("{:.0}", instructions / packets),
            _ => "not counted".to_owned(),
        }
    }
}

fn warm_up(run: &mut impl FnMut(&mut Meter)) {
    let mut silent = Meter { silent: true, ..Meter::default() };
    (0..WARM_UP).for_each(|_| run(&mut silent));
}

/// Runs a step for valgrind.
fn count(mut run: impl FnMut(&mut Meter)) {
    warm_up(&mut run);
    let mut meter = Meter::default();
    (0..COUNTED).for_each(|_| run(&mut meter));
    println!("packets:{}", meter.packets);
}
