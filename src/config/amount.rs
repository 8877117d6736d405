//! Amounts with their units: rates and volumes.

use std::fmt;
use std::str::FromStr;

/// What the units are called, the largest first, and how many bits per second each is.
const RATE_UNITS: &[(&str, u64)] =
    &[("Gbit/s", 1_000_000_000), ("Mbit/s", 1_000_000), ("kbit/s", 1_000), ("bit/s", 1)];
const RATE: &str = "a number and bit/s, kbit/s, Mbit/s or Gbit/s, as in 20 Mbit/s";

/// The same for bytes. Who sells data counts in thousands.
const VOLUME_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
];
const VOLUME: &str = "a number and MB, GB, TB, MiB, GiB or TiB, as in 50 GB";

/// Slower, acknowledgements and probes alone would fill a link.
const MIN_BITS_PER_SECOND: u64 = 8_000;
const MAX_BITS_PER_SECOND: u64 = 1_000_000_000_000;
/// Less is used up by keeping the link open.
const MIN_BYTES: u64 = 1_000_000;
const MAX_BYTES: u64 = 1 << 60;

/// A rate: 8 kbit/s to 1 Tbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate(u64);

impl BitRate {
    /// Bits per second.
    pub fn bits_per_second(self) -> u64 {
        self.0
    }
}

impl FromStr for BitRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As tc(8) writes it too.
        let lower = text.to_ascii_lowercase();
        let text = if lower.ends_with("bit") { format!("{text}/s") } else { text.to_owned() };
        let bits = amount(&text, RATE_UNITS).ok_or(RATE)?;
        if (MIN_BITS_PER_SECOND..=MAX_BITS_PER_SECOND).contains(&bits) {
            Ok(Self(bits))
        } else {
            Err("8 kbit/s to 1000 Gbit/s".to_owned())
        }
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, RATE_UNITS)
    }
}

/// Bytes: 1 MB to 2^60.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Volume(u64);

impl Volume {
    /// Bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = amount(text, VOLUME_UNITS).ok_or(VOLUME)?;
        if (MIN_BYTES..=MAX_BYTES).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err("1 MB to 1048576 TiB".to_owned())
        }
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, &VOLUME_UNITS[3..])
    }
}

/// The number before one of the units, in the smallest unit; fractions are cut off.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, size) = units.iter().find_map(|(unit, size)| {
        let start = text.len().checked_sub(unit.len())?;
        let fits = text.is_char_boundary(start) && text[start..].eq_ignore_ascii_case(unit);
        fits.then(|| (text[..start].trim_end(), *size))
    })?;
    let decimal =
        |text: &str| !text.is_empty() && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !decimal(whole) || !decimal(fraction) {
        return None;
    }
    let scale = 10u128.pow(fraction.len() as u32);
    let value = whole.parse::<u128>().ok()? * scale + fraction.parse::<u128>().ok()?;
    u64::try_from(value * u128::from(size) / scale).ok()
}

/// In the largest unit that leaves at most three decimals, or the smallest.
fn write(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let exact = |(_, size): &&(&str, u64)| {
        value >= *size && (u128::from(value) * 1000).is_multiple_of((*size).into())
    };
    let (unit, size) = units.iter().find(exact).or(units.last()).unwrap_or(&("", 1));
    let thousandths = (u128::from(value) * 1000).div_ceil(u128::from(*size));
    match (thousandths / 1000, thousandths % 1000) {
        (whole, 0) => write!(f, "{whole} {unit}"),
        (whole, part) => write!(f, "{whole}.{} {unit}", format!("{part:03}").trim_end_matches('0')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_people_and_tc_write_them() {
        for (text, bits) in [
            ("20 Mbit/s", 20_000_000),
            ("20mbit", 20_000_000),
            ("1.5 Gbit/s", 1_500_000_000),
            ("500kbit/s", 500_000),
            ("8000 bit/s", 8_000),
        ] {
            assert_eq!(text.parse(), Ok(BitRate(bits)), "{text}");
        }
        for text in
            ["", "20", "Mbit/s", "-1 Mbit/s", "1e3 kbit/s", "1.2.3 Mbit/s", "20 MB/s", "é", ". Mbit/s"]
        {
            assert_eq!(text.parse::<BitRate>(), Err(RATE.to_owned()), "{text}");
        }
        assert!("7 kbit/s".parse::<BitRate>().is_err() && "1001 Gbit/s".parse::<BitRate>().is_err());
        assert!("999999999999999 Gbit/s".parse::<BitRate>().is_err());
    }

    #[test]
    fn volumes_read_in_thousands_and_in_powers_of_two() {
        for (text, bytes) in [("50 GB", 50_000_000_000), ("1.5tb", 1_500_000_000_000), ("1 GiB", 1 << 30)] {
            assert_eq!(text.parse(), Ok(Volume(bytes)), "{text}");
        }
        assert_eq!("50".parse::<Volume>(), Err(VOLUME.to_owned()));
        assert!("1 KB".parse::<Volume>().is_err() && "0.5 MB".parse::<Volume>().is_err());
    }

    #[test]
    fn amounts_are_written_in_the_unit_that_fits() {
        let rate = |bits| BitRate(bits).to_string();
        assert_eq!(rate(20_000_000), "20 Mbit/s");
        assert_eq!(rate(1_500_000_000), "1.5 Gbit/s");
        assert_eq!(rate(8_001), "8.001 kbit/s");
        assert_eq!(Volume(50_000_000_000).to_string(), "50 GB");
    }
}
