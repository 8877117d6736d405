//! Conditions as numbers, and what is said of them.

use super::*;

/// A link as it was measured: Mbit/s out and in, and what is special of it.
#[derive(Clone)]
struct Case {
    name: &'static str,
    mbit: [f64; 2],
    change: fn(&mut Measured),
}

const fn link(name: &'static str, out: f64, back: f64) -> Case {
    Case { name, mbit: [out, back], change: |_| {} }
}

fn measured(index: usize, case: &Case, mbit: f64) -> Measured {
    let mut measured = Measured {
        number: index as u8 + 1,
        name: case.name.to_owned(),
        rate_bps: mbit * 1e6,
        idle_rtt_ms: Some(30.0),
        loaded_rtt_ms: Some(34.0),
        loaded_rtt_p95_ms: Some(40.0),
        queue_ms: Some(100.0),
        queue_overflowed: true,
        path_mtu_bytes: Some(1_500),
        bytes: 1 << 20,
        ..Measured::default()
    };
    (case.change)(&mut measured);
    measured
}

/// A test of these links, which together bring `together` of the sum, out and in.
fn test(cases: &[Case], together: [f64; 2]) -> Progress {
    let mut steps = Vec::new();
    for (side, direction) in [Direction::Out, Direction::In].into_iter().enumerate() {
        let step = |together, links| Step {
            direction,
            together,
            trouble: None,
            links,
            busy_here: Some(0.2),
            busy_there: None,
        };
        let of = |share: f64| {
            let all = cases.iter().enumerate();
            all.map(|(index, case)| measured(index, case, case.mbit[side] * share)).collect::<Vec<_>>()
        };
        steps.extend(of(1.0).into_iter().map(|link| step(false, vec![link])));
        if cases.len() > 1 {
            steps.push(step(true, of(together[side])));
        }
    }
    Progress { planned_steps: steps.len(), steps, ..Progress::default() }
}

fn snapshot(cases: &[Case]) -> Snapshot {
    let link = |(number, case): (u8, &Case)| Link {
        number,
        name: case.name.to_owned(),
        state: "up".to_owned(),
        congestion_control: "bbr".to_owned(),
        gso: Some(true),
        ..Link::default()
    };
    let offload = vec!["tso4".to_owned()];
    Snapshot { links: (1..).zip(cases).map(link).collect(), offload, ..Snapshot::default() }
}

fn found(cases: &[Case], together: [f64; 2]) -> Vec<(Cause, String)> {
    let findings = diagnose(&snapshot(cases), &test(cases, together));
    findings.into_iter().map(|finding| (finding.cause, finding.links.join(" "))).collect()
}

/// What is found of `dsl`, a clean link, and `lte`, which this is done to.
fn with(change: fn(&mut Measured)) -> Vec<(Cause, String)> {
    found(&[link("dsl", 20.0, 20.0), Case { change, ..link("lte", 20.0, 20.0) }], [1.0; 2])
}

fn of(cause: Cause, links: &str) -> Vec<(Cause, String)> {
    vec![(cause, links.to_owned())]
}

#[test]
fn all_is_well_with_clean_links() {
    assert_eq!(
        found(&[link("dsl", 20.0, 20.0), link("lte", 15.0, 15.0)], [0.95, 0.97]),
        of(Cause::AllWell, "")
    );
    assert_eq!(found(&[link("dsl", 20.0, 100.0)], [1.0; 2]), of(Cause::AllWell, ""));
}

#[test]
fn what_is_wrong_with_one_link_is_said_of_it() {
    assert_eq!(with(|m| m.loss = 0.02), of(Cause::LossyLink, "lte"));
    assert_eq!(with(|m| m.rate_bps /= 8.0), of(Cause::SlowLink, "lte"));
    assert_eq!(with(|m| m.rate_bps /= 30.0), of(Cause::WorthlessLink, "lte"));
    assert_eq!(with(|m| m.path_mtu_bytes = Some(1_300)), of(Cause::SmallMtu, "lte"));
    assert_eq!(with(|m| m.idle_rtt_ms = Some(300.0)), of(Cause::LateLink, "lte"));
    assert_eq!(
        with(|m| (m.queue_ms, m.queue_overflowed) = (Some(310.0), false)),
        of(Cause::Bufferbloat, "lte")
    );
    assert_eq!(
        with(|m| (m.queue_ms, m.loaded_rtt_p95_ms) = (None, Some(400.0))),
        of(Cause::Bufferbloat, "lte")
    );
}

#[test]
fn what_is_only_worth_knowing_does_not_spoil_that_all_is_well() {
    let causes = |change| with(change).into_iter().map(|(cause, _)| cause).collect::<Vec<_>>();
    assert_eq!(causes(|m| m.reordered = Some(0.1)), [Cause::AllWell, Cause::Reordering]);
    assert_eq!(causes(|m| m.growing = true), [Cause::AllWell, Cause::TooShort]);
    assert_eq!(causes(|m| m.interrupted = true), [Cause::AllWell, Cause::Interrupted]);
}

#[test]
fn links_that_share_a_line_are_named() {
    let two = [link("dsl", 20.0, 20.0), link("lte", 20.0, 20.0)];
    assert_eq!(found(&two, [0.52, 0.5]), of(Cause::SharedBottleneck, "dsl lte"));
    let three = [two[0].clone(), two[1].clone(), link("sat", 20.0, 20.0)];
    let mut test = test(&three, [1.0; 2]);
    for step in test.steps.iter_mut().filter(|step| step.together) {
        step.links[0].rate_bps = 5e6;
        step.links[2].rate_bps = 15e6;
    }
    let findings = diagnose(&snapshot(&three), &test);
    assert_eq!((findings.len(), findings[0].cause), (1, Cause::SharedBottleneck));
    assert_eq!(findings[0].links, ["dsl", "sat"]);
}

#[test]
fn one_direction_of_all_links_is_an_uplink() {
    let two = [link("dsl", 20.0, 20.0), link("lte", 20.0, 20.0)];
    assert_eq!(found(&two, [0.98, 0.6]), of(Cause::UplinkThere, "dsl lte"));
    assert_eq!(found(&two, [0.6, 0.98]), of(Cause::UplinkHere, "dsl lte"));
}

#[test]
fn a_busy_processor_explains_what_looks_like_a_shared_line() {
    let two = [link("dsl", 20.0, 20.0), link("lte", 20.0, 20.0)];
    let mut test = test(&two, [0.5, 0.5]);
    test.steps.iter_mut().for_each(|step| step.busy_there = Some(0.97));
    let findings = diagnose(&snapshot(&two), &test);
    assert_eq!(findings.iter().map(|finding| finding.cause).collect::<Vec<_>>(), [Cause::ProcessorThere]);
    test.steps.iter_mut().for_each(|step| step.busy_here = Some(0.9));
    assert_eq!(diagnose(&snapshot(&two), &test)[0].cause, Cause::ProcessorHere);
}

#[test]
fn what_could_not_be_tested_is_said() {
    let two = [link("dsl", 20.0, 20.0), link("lte", 20.0, 20.0)];
    let mut portal = snapshot(&two);
    portal.links[1].state = "down".to_owned();
    portal.links[1].reason = Some("carrier lost".to_owned());
    let mut one = test(&two[..1], [1.0; 2]);
    one.trouble = Some("the other portal does not answer".to_owned());
    let findings = diagnose(&portal, &one);
    assert_eq!(findings.iter().map(|f| f.cause).collect::<Vec<_>>(), [Cause::LinkDown, Cause::Incomplete]);
    assert!(findings[0].what.contains("carrier lost"));
}

#[test]
fn offload_that_is_off_is_told_besides() {
    let one = [link("dsl", 20.0, 20.0)];
    let mut portal = snapshot(&one);
    portal.offload.clear();
    let findings = diagnose(&portal, &test(&one, [1.0; 2]));
    assert_eq!(findings.iter().map(|f| f.cause).collect::<Vec<_>>(), [Cause::AllWell, Cause::OffloadOff]);
}

#[test]
fn every_finding_says_what_to_do_in_whole_sentences() {
    for finding in diagnose(&snapshot(&[link("dsl", 1.0, 1.0)]), &test(&[link("dsl", 1.0, 1.0)], [1.0; 2])) {
        assert!(finding.what.ends_with('.') && finding.advice.ends_with('.'), "{finding:?}");
    }
}
