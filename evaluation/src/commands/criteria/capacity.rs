//! How much the links carry together.

use std::collections::BTreeMap;

use anyhow::Result;

use evaluation::iperf::Iperf;
use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::portal::{Method, Pair, PairOptions, local_config, random_key, remote_config};
use evaluation::wan::Direction;

use super::{Plan, Row, goodput, iperf, median_of};

/// Links of the dissertation's kind: so many Mbit/s, 40 ms there and back, queues of 100 ms.
fn links(rates: &[u32]) -> Vec<LinkSpec> {
    rates.iter().map(|&rate| LinkSpec::mbit(rate.into()).delay_ms(20.0)).collect()
}

/// One, two, three and four links, equal and unequal, both ways, with a single connection.
pub(super) fn sums(plan: &Plan) -> Result<Vec<Row>> {
    const SETS: [&[u32]; 6] = [&[2], &[2, 2], &[2, 4], &[4, 4], &[2, 2, 2], &[2, 2, 2, 2]];
    let mut rows = Vec::new();
    for direction in Direction::BOTH {
        let mut got: BTreeMap<&[u32], f64> = BTreeMap::new();
        for set in SETS {
            let lab = Lab::new(&links(set))?;
            let mbit = goodput(plan, &lab, &PairOptions::default(), &iperf(plan, direction, 1))?;
            super::say(&format!("  {set:?} Mbit/s {}: {mbit:.2}", direction));
            got.insert(set, mbit);
        }
        let [one, two, unequal, large, three, four] = SETS.map(|set| got[set]);
        let halfway = (two + large) / 2.0;
        rows.push(compare(format!("two links of 2 Mbit/s against one, {direction}"), two, one));
        rows.push(compare(format!("2 and 4 Mbit/s against twice the smaller, {direction}"), unequal, two));
        rows.push(
            Row {
                what: format!("2 and 4 Mbit/s against halfway between 2 + 2 and 4 + 4, {direction}"),
                measured: format!("{unequal:.2} Mbit/s, halfway is {halfway:.2}"),
                bound: "within 15 %".into(),
                met: (unequal / halfway - 1.0).abs() <= 0.15,
            }
            .told(),
        );
        rows.push(compare(format!("three links of 2 Mbit/s against two, {direction}"), three, two));
        rows.push(compare(format!("four links of 2 Mbit/s against three, {direction}"), four, three));
    }
    Ok(rows)
}

/// A row that says that the first value is larger, in Mbit/s.
fn compare(what: String, larger: f64, smaller: f64) -> Row {
    let measured = format!("{larger:.2} against {smaller:.2} Mbit/s");
    Row { what, measured, bound: "more".into(), met: larger > smaller }.told()
}

/// All mixtures of families against IPv4 over IPv4, of which an IPv6 header costs little.
pub(super) fn families(plan: &Plan) -> Result<Vec<Row>> {
    let lab = Lab::new(&links(&[10, 10]))?;
    let mut rows = Vec::new();
    let mut base = 0.0;
    for outer in Family::BOTH {
        for inner in Family::BOTH {
            let options = PairOptions { outer, ..PairOptions::default() };
            let iperf = iperf(plan, Direction::Down, 4).family(inner);
            let mbit = goodput(plan, &lab, &options, &iperf)?;
            if rows.is_empty() {
                base = mbit;
            }
            let what = format!("{inner:?} over {outer:?}, two links of 10 Mbit/s, four connections");
            rows.push(Row::at_least(what, mbit, base * 0.95, "Mbit/s"));
        }
    }
    // The first is what the others are held to.
    rows.remove(0);
    Ok(rows)
}

/// Two links of 50 Mbit/s and 40 ms, eight connections, UDP and TCP flows.
pub(super) fn fast(plan: &Plan) -> Result<Vec<Row>> {
    let lab = Lab::new(&links(&[50, 50]))?;
    let mut rows = Vec::new();
    for direction in Direction::BOTH {
        let mut got = Vec::new();
        for (method, control, name, least) in
            [(Method::Udp, "newreno", "UDP flows with newreno", 85.0), (Method::Tcp, "", "TCP flows", 80.0)]
        {
            let options =
                PairOptions { method, congestion_control: control.into(), ..PairOptions::default() };
            let mbit = goodput(plan, &lab, &options, &iperf(plan, direction, 8))?;
            got.push(mbit);
            let what = format!("two links of 50 Mbit/s, 40 ms, eight connections, {name}, {direction}");
            rows.push(Row::at_least(what, mbit, least, "Mbit/s"));
        }
        rows.push(compare(format!("UDP flows against TCP flows there, {direction}"), got[0], got[1]));
    }
    Ok(rows)
}

/// One link without any emulation between the portals' systems.
pub(super) fn veth(plan: &Plan) -> Result<Vec<Row>> {
    let lab = Lab::new(&links(&[50]))?;
    let (interface, address) = lab.add_plain_link()?;
    let options = PairOptions::default();
    let key = random_key()?;
    let local = local_config(&lab, &options, &key)
        .replace("Interface = wan0", &format!("Interface = {interface}"))
        .replace(&lab.remote_address(Family::V4).to_string(), &address.to_string());
    let mut pair = Pair::start_with(&lab, &options, [local, remote_config(&options, &key)])?;
    pair.wait_connected(std::time::Duration::from_secs(10))?;
    let mut rows = Vec::new();
    for direction in Direction::BOTH {
        let iperf = Iperf { parallel: 1, ..iperf(plan, direction, 1) };
        let tunnel = evaluation::portal::remote_tunnel_address();
        let run = || Ok(iperf.run_between(lab.local(), lab.remote(), tunnel)?.goodput_bps / 1e6);
        let what = format!("one connection from portal to portal over a plain veth, {}", direction);
        rows.push(Row::at_least(what, median_of(plan, run)?, 500.0, "Mbit/s"));
    }
    pair.stop()?;
    Ok(rows)
}
