//! The values that keys take. Every parser says in its error what is allowed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::Key;

/// Smallest MTU that IPv6 may be carried over (RFC 8200 §5).
pub(super) const MIN_IPV6_MTU: u16 = 1280;

/// Smallest MTU on offer: every IPv4 host takes a datagram of 576 bytes (RFC 791 §3.1).
const MIN_MTU: u16 = 576;
/// Most processors that may be named.
const MAX_PROCESSORS: u16 = 1024;

/// An address with the length of its network prefix, as in `10.0.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The address, host part included; neither unspecified nor multicast.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Prefix length, bits: 0 to 32 or 0 to 128.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Cidr, String> {
        const ALLOWED: &str = "an address and its prefix length, as in 10.0.0.1/24 or fd00::1/64";
        let (address, prefix) = text.split_once('/').ok_or(ALLOWED)?;
        let address: IpAddr = address.parse().map_err(|_| ALLOWED)?;
        if address.is_unspecified() || address.is_multicast() {
            return Err("an address of one host".to_owned());
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = number(prefix, 0, most).map_err(|range| format!("prefix length {range}"))?;
        Ok(Cidr { address, prefix })
    }
}

/// A network, as in `10.0.0.0/8`; `0.0.0.0/0` and `::/0` are all addresses of their family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = String;

    /// Reads a network; bits of a host are taken off, as `wg-quick` does.
    fn from_str(text: &str) -> Result<Network, String> {
        const ALLOWED: &str = "a network and its prefix length, as in 10.0.0.0/8 or ::/0";
        let (address, prefix) = text.split_once('/').ok_or(ALLOWED)?;
        let address: IpAddr = address.parse().map_err(|_| ALLOWED)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = number(prefix, 0, most).map_err(|range| format!("prefix length {range}"))?;
        let host_bits = u32::from(most - prefix);
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        };
        Ok(Network { address, prefix })
    }
}

/// Where the routes into the tunnel are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// Nowhere: the default.
    #[default]
    Off,
    /// In a table of the interface's own, with rules that let all but the links' own packets look there.
    Auto,
    /// In the table of this number; who looks there is the operator's affair.
    Number(u32),
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Table::Off => f.write_str("off"),
            Table::Auto => f.write_str("auto"),
            Table::Number(number) => number.fmt(f),
        }
    }
}

impl FromStr for Table {
    type Err = String;

    fn from_str(text: &str) -> Result<Table, String> {
        if let Ok(table) = choice(text, &[("off", Table::Off), ("auto", Table::Auto)]) {
            return Ok(table);
        }
        match number(text, 1, u32::MAX) {
            // `default`, `main` and `local` (/etc/iproute2/rt_tables): the links' own packets look there.
            Ok(253..=255) => {
                Err("auto or off or a number other than 253 to 255, which are the system's".into())
            }
            Ok(number) => Ok(Table::Number(number)),
            Err(range) => Err(format!("auto or off or {range}")),
        }
    }
}

/// A search domain for the resolver.
pub(super) fn search_domain(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if (1..=253).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err("addresses of name servers, and search domains".to_owned())
    }
}

/// How datagrams are protected between the portals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Each datagram is encrypted: nobody can forge one or read what it carries.
    Aead {
        /// The shared key.
        key: Key,
    },
    /// Each datagram carries a keyed checksum: nobody can forge one, anybody can read it.
    Mac {
        /// The shared key.
        key: Key,
    },
    /// Nothing is added: for links inside WireGuard or IPsec.
    None {
        /// The shared key, if one is given.
        key: Option<Key>,
    },
}

impl Protection {
    /// The shared key, if there is one.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Protection::Aead { key } | Protection::Mac { key } => Some(key),
            Protection::None { key } => key.as_ref(),
        }
    }

    /// The word of the configuration: `aead`, `mac` or `none`.
    pub fn name(&self) -> &'static str {
        match self {
            Protection::Aead { .. } => "aead",
            Protection::Mac { .. } => "mac",
            Protection::None { .. } => "none",
        }
    }
}

/// The MTU of the TUN interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtu {
    /// What the links can carry without fragmentation.
    Auto,
    /// Bytes: 576 to 65535, and at least 1280 if the interface has an IPv6 address.
    Fixed(u16),
}

impl FromStr for Mtu {
    type Err = String;

    fn from_str(text: &str) -> Result<Mtu, String> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Mtu::Auto);
        }
        number(text, MIN_MTU, u16::MAX).map(Mtu::Fixed).map_err(|range| format!("auto or {range}"))
    }
}

/// What carries a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// UDP datagrams.
    Udp,
    /// A TCP connection.
    Tcp,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Udp => "UDP",
            Method::Tcp => "TCP",
        })
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Method, String> {
        choice(text, &[("UDP", Method::Udp), ("TCP", Method::Tcp)])
    }
}

/// Who decides how much of a link may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CongestionControl {
    /// A model of the path in the manner of BBRv3, in this program: the default.
    Bbr,
    /// NewReno (RFC 6582, RFC 9002 §7) in this program.
    NewReno,
    /// Nobody: everything is sent at once. For tests, and for paths with room to spare.
    None,
    /// The kernel; always and only on TCP links.
    Kernel,
}

impl CongestionControl {
    /// The word of the configuration, or `kernel`.
    pub fn name(&self) -> &'static str {
        match self {
            CongestionControl::Bbr => "bbr",
            CongestionControl::NewReno => "newreno",
            CongestionControl::None => "none",
            CongestionControl::Kernel => "kernel",
        }
    }
}

impl FromStr for CongestionControl {
    type Err = String;

    /// Reads what may be written in the configuration, which `kernel` may not.
    fn from_str(text: &str) -> Result<CongestionControl, String> {
        let choices = [CongestionControl::Bbr, CongestionControl::NewReno, CongestionControl::None];
        choice(text, &choices.map(|c| (c.name(), c)))
    }
}

/// When links of a higher `Metric` carry packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricMode {
    /// While no link of a lower one is usable: the default.
    #[default]
    Backup,
    /// Also while the links of lower ones are full.
    Overflow,
}

impl MetricMode {
    /// The word of the configuration.
    pub fn name(self) -> &'static str {
        match self {
            MetricMode::Backup => "backup",
            MetricMode::Overflow => "overflow",
        }
    }
}

impl FromStr for MetricMode {
    type Err = String;

    fn from_str(text: &str) -> Result<MetricMode, String> {
        choice(text, &[MetricMode::Backup, MetricMode::Overflow].map(|mode| (mode.name(), mode)))
    }
}

/// Which packets are sent twice, over two links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redundancy {
    /// None: the default.
    #[default]
    Off,
    /// Small ones of real-time conversations, as far as a share of the links' rate allows.
    Realtime,
}

impl Redundancy {
    /// The word of the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Redundancy::Off => "off",
            Redundancy::Realtime => "realtime",
        }
    }
}

impl FromStr for Redundancy {
    type Err = String;

    fn from_str(text: &str) -> Result<Redundancy, String> {
        choice(text, &[Redundancy::Off, Redundancy::Realtime].map(|kind| (kind.name(), kind)))
    }
}

/// Name of a network interface: 1 to 15 of letters, digits and `_ = + . -`, but not `.` or `..`,
/// the rule of `wg-quick`. So it is a plain file name, and safe within a shell command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Longest name, bytes: `IFNAMSIZ` without the final zero.
    pub const MAX_LEN: usize = 15;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for InterfaceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for InterfaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<InterfaceName, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_=+.-".contains(&b);
        if !(1..=Self::MAX_LEN).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err("an interface name is 1 to 15 of A-Z a-z 0-9 _ = + . -".to_owned());
        }
        if text == "." || text == ".." {
            return Err(". and .. cannot name an interface".to_owned());
        }
        Ok(InterfaceName(text.to_owned()))
    }
}

/// What becomes of a link near its data cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuotaAction {
    /// It is used only when no other link is up.
    #[default]
    Backup,
    /// It is closed until the next period.
    Off,
}

impl QuotaAction {
    /// The word of the configuration: `backup` or `off`.
    pub fn name(self) -> &'static str {
        match self {
            QuotaAction::Backup => "backup",
            QuotaAction::Off => "off",
        }
    }
}

impl FromStr for QuotaAction {
    type Err = String;

    fn from_str(text: &str) -> Result<QuotaAction, String> {
        choice(text, &[("backup", QuotaAction::Backup), ("off", QuotaAction::Off)])
    }
}

/// A link's name: 1 to 32 of letters, digits and `_ . -`.
pub(super) fn link_name(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("1 to 32 of A-Z a-z 0-9 _ . -".to_owned())
    }
}

/// An address of this host.
pub(super) fn local_address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_multicast() => Err("an address of this host".to_owned()),
        Ok(address) => Ok(address),
        Err(_) => Err("an IP address without port or prefix length".to_owned()),
    }
}

/// A decimal number within a range; the error names the side that was overstepped.
pub(super) fn number<T>(text: &str, min: T, max: T) -> Result<T, String>
where
    T: TryFrom<u64> + Copy + fmt::Display + Into<u64>,
{
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("a number from {min} to {max}"));
    }
    // Digits that overflow 64 bits are above any maximum.
    let value = text.parse::<u64>().unwrap_or(u64::MAX);
    if value < min.into() {
        return Err(format!("min {min}"));
    }
    T::try_from(value).ok().filter(|value| (*value).into() <= max.into()).ok_or_else(|| format!("max {max}"))
}

/// A number of processors; `None` for as many as there are.
pub(super) fn processors(text: &str) -> Result<Option<u16>, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    number(text, 1, MAX_PROCESSORS).map(Some).map_err(|range| format!("auto or {range}"))
}

/// One of a few words, in any letter case.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    match found {
        Some((_, value)) => Ok(*value),
        None => {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            Err(words.join(" or "))
        }
    }
}
