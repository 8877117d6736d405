use evaluation::{lab::Lab, link::LinkSpec, may_build_labs};
#[test]
fn builds() {
    if !may_build_labs("x") {
        return;
    }
    let t = std::time::Instant::now();
    let lab = Lab::new(&[
        LinkSpec::mbit(50.0).delay_ms(20.0),
        LinkSpec::mbit(10.0).delay_ms(5.0),
    ])
    .unwrap();
    eprintln!("built in {:?}", t.elapsed());
    eprintln!(
        "{}",
        lab.client()
            .run("ping", &["-c", "20", "-i", "0.05", "203.0.113.2"])
            .unwrap()
    );
    lab.route_directly(1).unwrap();
    eprintln!(
        "{}",
        lab.client()
            .run("ping", &["-c", "20", "-i", "0.05", "2001:db8:113::2"])
            .unwrap()
    );
    eprintln!("{:?}", lab.wire(1).counters(evaluation::wan::Direction::Up));
    lab.rebind_nat(1).unwrap();
    lab.rebind_nat(1).unwrap();
    drop(lab);
    eprintln!("{:?}", t.elapsed());
}
