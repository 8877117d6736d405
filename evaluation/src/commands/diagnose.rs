//! `evaluation diagnose`: does `netcombiner test` find what is wrong with a bond?

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use evaluation::diagnose::{CASES, Case};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Cases to make [default: all]
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// Seconds of each step of the test
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=30))]
    seconds: u32,
    /// Print all that was measured, as JSON
    #[arg(long)]
    full: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut chosen: Vec<&Case> = Vec::new();
    for name in &arguments.cases {
        match Case::named(name) {
            Some(case) => chosen.push(case),
            None => bail!("there is no case {name}; there are {}", CASES.map(|case| case.name).join(", ")),
        }
    }
    if chosen.is_empty() {
        chosen.extend(&CASES);
    }
    println!("| case | condition | found | |");
    println!("|---|---|---|---|");
    let mut wrong = 0;
    for case in chosen {
        let (verdict, found, words) = match case.run(arguments.seconds) {
            Ok(Some(outcome)) => {
                if arguments.full {
                    println!("{:#}", outcome.report);
                }
                let right = outcome.cause == case.cause;
                wrong += usize::from(!right);
                (if right { "right" } else { "WRONG" }, outcome.cause, outcome.what)
            }
            Ok(None) => ("left out", String::new(), "this system cannot make the condition".to_owned()),
            Err(error) => {
                wrong += 1;
                ("FAILED", String::new(), format!("{error:#}"))
            }
        };
        println!("| {} | {} | {found} | {verdict}: {words} |", case.name, case.condition);
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
