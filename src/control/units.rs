//! Numbers as people read them.

/// `85 B`, `1.50 MiB`: three digits that count.
pub fn bytes(count: u64) -> String {
    scaled(count as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// `85 B`, `12.3 GB`: bytes as those who sell data count them.
pub fn volume(count: u64) -> String {
    scaled(count as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `0 bit/s`, `12.3 Mbit/s`.
pub fn rate(bits_per_second: f64) -> String {
    scaled(bits_per_second, 1000.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
}

/// `850`, `12.3k`, `94.1M`: for a column whose head has the unit.
pub fn prefixed(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T"]).replace(' ', "")
}

/// `0.42 ms`, `23.1 ms`, `1234 ms`.
pub fn milliseconds(ms: f64) -> String {
    format!("{} ms", three_digits(ms))
}

/// The two largest units: `42 s`, `5 min 3 s`, `2 h 13 min`, `3 d 4 h`.
pub fn duration(seconds: f64) -> String {
    // A float beyond the range, or none at all, becomes the nearest whole number or zero.
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days} d {} h", hours % 24)
    } else if hours > 0 {
        format!("{hours} h {} min", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut index = 0;
    // 999.5 would be shown as 1000, which is the next unit's business only from `step` on.
    while value >= step && index + 1 < units.len() {
        value /= step;
        index += 1;
    }
    let unit = units[index];
    if index == 0 { format!("{value:.0} {unit}") } else { format!("{} {unit}", three_digits(value)) }
}

fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_binary_units() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (10_230, "9.99 KiB")];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(102_400), "100 KiB");
        assert_eq!(bytes(1_572_864), "1.50 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn rates_in_decimal_units() {
        assert_eq!(rate(0.0), "0 bit/s");
        assert_eq!(rate(12_340_000.0), "12.3 Mbit/s");
        assert_eq!(rate(1e9), "1.00 Gbit/s");
        assert_eq!([0.0, 850.0, 94.14e6].map(prefixed), ["0", "850", "94.1M"]);
    }

    #[test]
    fn times() {
        assert_eq!(milliseconds(0.421), "0.42 ms");
        assert_eq!(milliseconds(1234.5), "1234 ms");
        assert_eq!(duration(42.9), "42 s");
        assert_eq!(duration(303.0), "5 min 3 s");
        assert_eq!(duration(7980.0), "2 h 13 min");
        assert_eq!(duration(273_600.0), "3 d 4 h");
        assert_eq!(duration(-1.0), "0 s");
        assert_eq!(duration(f64::NAN), "0 s");
    }
}
