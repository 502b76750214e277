//! Durations and sizes as people write them, and the words `auto` and `never`.
//!
//! Promises that every value is written in the form that reads back equal.

use std::fmt;
use std::time::Duration;

use crate::place::{Value, quoted};
use crate::setting::Setting;

/// A number of bytes. Written `"64KiB"`, `"2GiB"`, `"10MB"`; decimals are fine (`"1.5GiB"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Largest first, the binary ones first, so that writing picks the shortest exact form.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// In nanoseconds, largest first.
const TIMES: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Bytes {
    /// So many binary megabytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(self.0, &SIZES[..4], "B"))
    }
}

/// The largest unit that divides the amount, or the smallest unit.
fn written(amount: u64, units: &[(&str, u64)], smallest: &str) -> String {
    units
        .iter()
        .find(|(_, size)| amount > 0 && amount.is_multiple_of(*size))
        .map_or_else(|| format!("{amount}{smallest}"), |(unit, size)| format!("{}{unit}", amount / size))
}

/// A decimal number and one of the units, exact to the last digit. Fractions of the smallest unit
/// are refused rather than rounded.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let (_, size) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (fraction.is_empty() && number.contains('.')) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let mut total = u128::from(whole) * u128::from(*size);
    if !fraction.is_empty() {
        let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = fraction.parse::<u128>().ok()?.checked_mul(u128::from(*size))?;
        if part % scale != 0 {
            return None;
        }
        total += part / scale;
    }
    u64::try_from(total).ok()
}

impl std::str::FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        amount(text, &SIZES).map(Self).ok_or_else(Self::accepts)
    }
}

impl Setting for Bytes {
    type Bound = Self;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => text.parse(),
            _ => Err(Self::accepts()),
        }
    }
    fn write(&self) -> String {
        quoted(&self.to_string())
    }
    fn accepts() -> String {
        "a size such as \"64KiB\" or \"2GiB\"".into()
    }
    fn bounded(&self) -> Option<Self> {
        Some(*self)
    }
}

impl Setting for Duration {
    type Bound = Self;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => amount(text, &TIMES).map(Self::from_nanos).ok_or_else(Self::accepts),
            _ => Err(Self::accepts()),
        }
    }
    fn write(&self) -> String {
        let nanoseconds = u64::try_from(self.as_nanos()).unwrap_or(u64::MAX);
        quoted(&written(nanoseconds, &TIMES, "s"))
    }
    fn accepts() -> String {
        "a duration such as \"300ms\", \"1.5s\" or \"10min\"".into()
    }
    fn bounded(&self) -> Option<Self> {
        Some(*self)
    }
}

/// A value, or `"auto"` for one that is worked out from the machine or the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auto<T> {
    /// Worked out.
    Auto,
    /// Given.
    Set(T),
}

impl<T: Copy> Auto<T> {
    /// The value given, or what `find` works out.
    pub fn or_else(self, find: impl FnOnce() -> T) -> T {
        match self {
            Self::Auto => find(),
            Self::Set(value) => value,
        }
    }
}

impl<T: Setting> Setting for Auto<T> {
    type Bound = T::Bound;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) if text == "auto" => Ok(Self::Auto),
            other => T::read(other).map(Self::Set).map_err(|_| Self::accepts()),
        }
    }
    fn write(&self) -> String {
        match self {
            Self::Auto => quoted("auto"),
            Self::Set(value) => value.write(),
        }
    }
    fn accepts() -> String {
        format!("\"auto\" or {}", T::accepts())
    }
    fn bounded(&self) -> Option<T::Bound> {
        match self {
            Self::Auto => None,
            Self::Set(value) => value.bounded(),
        }
    }
}

/// A duration, or `"never"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {
    /// It does not happen.
    Never,
    /// It happens after this long.
    After(Duration),
}

impl Setting for Never {
    type Bound = Duration;
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) if text == "never" => Ok(Self::Never),
            other => Duration::read(other).map(Self::After).map_err(|_| Self::accepts()),
        }
    }
    fn write(&self) -> String {
        match self {
            Self::Never => quoted("never"),
            Self::After(duration) => duration.write(),
        }
    }
    fn accepts() -> String {
        format!("\"never\" or {}", Duration::accepts())
    }
    fn bounded(&self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::After(duration) => Some(*duration),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn durations_and_sizes_are_read_exactly() {
        for (written, nanoseconds) in [
            ("300ms", 300_000_000),
            ("1.5s", 1_500_000_000),
            ("0s", 0),
            (" 2 min ", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            ("0.001us", 1),
        ] {
            assert_eq!(Duration::read(&text(written)), Ok(Duration::from_nanos(nanoseconds)), "{written}");
        }
        for (written, bytes) in
            [("2GiB", 2 << 30), ("64KiB", 65_536), ("10MB", 10_000_000), ("1.5kb", 1_500), ("7B", 7)]
        {
            assert_eq!(Bytes::read(&text(written)), Ok(Bytes(bytes)), "{written}");
        }
    }

    #[test]
    fn amounts_without_a_meaning_are_refused() {
        for written in ["", "300", "ms", "-1s", "1..5s", ".5s", "5.s", "1 fortnight", "0.5ns", "99999999999999999999s"]
        {
            assert!(Duration::read(&text(written)).is_err(), "{written}");
        }
        for written in ["", "12", "GiB", "1 elephant", "0.3B", "99999999TiB", "-1MiB"] {
            assert!(Bytes::read(&text(written)).is_err(), "{written}");
        }
        assert!(Bytes::read(&Value::Integer(5)).is_err(), "a size without a unit is a guess");
    }

    #[test]
    fn what_is_written_reads_back_equal() {
        for nanoseconds in [0, 1, 1_000, 300_000_000, 1_500_000_000, 90_000_000_000, 3_600_000_000_000, u64::MAX] {
            let duration = Duration::from_nanos(nanoseconds);
            let literal = duration.write();
            assert_eq!(Duration::read(&text(literal.trim_matches('"'))), Ok(duration), "{literal}");
        }
        for bytes in [0, 1, 1_000, 1_024, 1_536, 3 << 30, u64::MAX] {
            let literal = Bytes(bytes).write();
            assert_eq!(Bytes::read(&text(literal.trim_matches('"'))), Ok(Bytes(bytes)), "{literal}");
        }
    }
}
