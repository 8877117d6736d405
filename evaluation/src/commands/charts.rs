//! How traces are drawn.

use evaluation::plot::{Curve, Panel};
use evaluation::script::{STEP, Script, Trace};

/// Throughput over time, what each link carried, and pings.
pub(super) fn trace_panels(trace: &Trace, script: &Script) -> Vec<Panel> {
    let step = STEP.as_secs_f64();
    let marks: Vec<_> = script.events.iter().map(|event| (event.at, event.describe())).collect();
    // Many words would cover each other.
    let marks =
        if marks.len() > 4 { marks.into_iter().map(|(at, _)| (at, String::new())).collect() } else { marks };
    let mut rates = vec![Curve::steps("goodput", step, &trace.goodput_mbit)];
    for (link, mbit) in trace.links_mbit.iter().enumerate() {
        rates.push(Curve::steps(format!("on link {link}"), step, mbit));
    }
    let panel = |y: &str, curves, marks| Panel { x: "seconds".into(), y: y.into(), curves, marks };
    let unmarked = marks.iter().map(|(at, _)| (*at, String::new())).collect();
    vec![
        panel("Mbit/s", rates, marks),
        panel("ping, ms", vec![Curve { name: "ping".into(), points: trace.pings.clone() }], unmarked),
    ]
}
