//! Values and changes for the eye: three significant digits, one unit for both sides of a comparison.

use darwin_gate::Unit;

/// One rung of a unit's ladder: values of at least `at_least` are shown as multiples of `size`.
struct Rung {
    size: f64,
    at_least: f64,
    suffix: &'static str,
}

const fn rung(size: f64, suffix: &'static str) -> Rung {
    Rung { size, at_least: size * ROUNDS_UP, suffix }
}

const KIB: f64 = 1024.0;

const TIME: &[Rung] = &[rung(1e9, "s"), rung(1e6, "ms"), rung(1e3, "us"), rung(1.0, "ns")];
const BYTES: &[Rung] = &[
    rung(KIB * KIB * KIB * KIB, " TiB"),
    rung(KIB * KIB * KIB, " GiB"),
    rung(KIB * KIB, " MiB"),
    rung(KIB, " KiB"),
    rung(1.0, " B"),
];
const PER_SECOND: &[Rung] = &[rung(1e9, "G/s"), rung(1e6, "M/s"), rung(1e3, "k/s"), rung(1.0, "/s")];
// A count below ten thousand is as short in full as in thousands, and exact.
const COUNT: &[Rung] =
    &[rung(1e9, "G"), rung(1e6, "M"), Rung { size: 1e3, at_least: 1e4, suffix: "k" }, rung(1.0, "")];
const RATIO: &[Rung] = &[rung(1.0, "")];

const fn ladder(unit: Unit) -> &'static [Rung] {
    match unit {
        Unit::Nanoseconds => TIME,
        Unit::Bytes => BYTES,
        Unit::PerSecond => PER_SECOND,
        Unit::Count => COUNT,
        Unit::Ratio => RATIO,
    }
}

/// Just under a rung, three digits would round up to it: `999.96us` is to read `1.00ms`, not `1000us`.
const ROUNDS_UP: f64 = 0.9995;

fn choose(value: f64, unit: Unit) -> &'static Rung {
    let rungs = ladder(unit);
    let smallest = &rungs[rungs.len() - 1];
    rungs.iter().find(|rung| value.abs() >= rung.at_least).unwrap_or(smallest)
}

/// Decimals that show three significant digits of `scaled`, and no more than three after the point.
fn decimals(scaled: f64, unit: Unit, rung: &Rung) -> usize {
    let whole_things = matches!(unit, Unit::Bytes | Unit::Count);
    let at_bottom = rung.size <= 1.0;
    match scaled.abs() {
        0.0 => 0,
        _ if whole_things && at_bottom && scaled.fract() == 0.0 => 0,
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    }
}

fn render(value: f64, rung: &Rung, decimals: usize) -> String {
    let scaled = value / rung.size;
    // Rounding may leave a "-0.00" behind, which says nothing that "0.00" does not.
    let digits = format!("{scaled:.decimals$}");
    let unsigned = digits.strip_prefix('-').filter(|rest| rest.chars().all(|c| c == '0' || c == '.'));
    let digits = unsigned.unwrap_or(&digits);
    format!("{digits}{}", rung.suffix)
}

/// One value, to three significant digits: `50.1us`, `10.0k/s`, `212 MiB`.
///
/// The value is in the unit's own base: nanoseconds, bytes, per second. What is not a finite number reads `n/a`.
pub fn format_value(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    let rung = choose(value, unit);
    render(value, rung, decimals(value / rung.size, unit, rung))
}

/// Below this share of the shared rung, the smaller of a pair would lose its digits.
const SHARED_RUNG_LEAST: f64 = 0.01;

/// Baseline and challenger in the same unit with the same number of decimals: `99.8us` and `100.8us`.
///
/// Only a pair that lies a hundredfold apart or more is shown in a unit each.
pub fn format_pair(baseline: f64, challenger: f64, unit: Unit) -> (String, String) {
    let apart = || (format_value(baseline, unit), format_value(challenger, unit));
    if !baseline.is_finite() || !challenger.is_finite() {
        return apart();
    }
    let (small, large) =
        if baseline.abs() <= challenger.abs() { (baseline, challenger) } else { (challenger, baseline) };
    let rung = choose(large, unit);
    let small_scaled = small / rung.size;
    if small != 0.0 && small_scaled.abs() < SHARED_RUNG_LEAST {
        return apart();
    }
    let shown = if small == 0.0 { large / rung.size } else { small_scaled };
    let decimals = decimals(shown, unit, rung);
    (render(baseline, rung, decimals), render(challenger, rung, decimals))
}

/// A change as signed percent: `0.05` reads `+5%`, `-0.198` reads `-19.8%`, no change reads `0%`.
///
/// The change is a fraction of the baseline (`challenger / baseline - 1`). What is not a finite number reads `n/a`.
pub fn format_change(change: f64) -> String {
    let percent = change * 100.0;
    if !percent.is_finite() {
        return "n/a".to_owned();
    }
    let digits = trimmed_percent(percent);
    if digits == "0" {
        return "0%".to_owned();
    }
    let sign = if percent > 0.0 { "+" } else { "" };
    format!("{sign}{digits}%")
}

/// One decimal, two below a tenth of a percent, none from a hundred on; zeros at the end are left out.
fn trimmed_percent(percent: f64) -> String {
    let decimals = match percent.abs() {
        size if size >= 99.95 => 0,
        size if size >= 0.095 => 1,
        _ => 2,
    };
    let digits = format!("{percent:.decimals$}");
    let digits =
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    if digits == "-0" { "0".to_owned() } else { digits.to_owned() }
}

/// A time for people, in UTC: `2025-11-24 16:02:11`; empty for none.
pub fn format_utc(unix_ms: u64) -> String {
    if unix_ms == 0 {
        return String::new();
    }
    // Beyond the year 9999 the text has no form; no clock that works is there.
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_ms.min(LAST_UNIX_MS));
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ").replace('Z', "")
}

/// The last second of the year 9999, in milliseconds since 1970.
const LAST_UNIX_MS: u64 = 253_402_300_799_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_well() {
        let table = [
            (50_100.0, Unit::Nanoseconds, "50.1us"),
            (0.0, Unit::Nanoseconds, "0ns"),
            (0.3549, Unit::Nanoseconds, "0.355ns"),
            (12.0, Unit::Nanoseconds, "12.0ns"),
            (999.0, Unit::Nanoseconds, "999ns"),
            (999.7, Unit::Nanoseconds, "1.00us"),
            (999_960.0, Unit::Nanoseconds, "1.00ms"),
            (2.5e9, Unit::Nanoseconds, "2.50s"),
            (7.2e12, Unit::Nanoseconds, "7200s"),
            (10_000.0, Unit::PerSecond, "10.0k/s"),
            (3.2e6, Unit::PerSecond, "3.20M/s"),
            (12.5, Unit::PerSecond, "12.5/s"),
            (512.0, Unit::Bytes, "512 B"),
            (222_298_112.0, Unit::Bytes, "212 MiB"),
            (1.5 * 1024.0 * 1024.0 * 1024.0, Unit::Bytes, "1.50 GiB"),
            (1_802.0, Unit::Count, "1802"),
            (9_999.0, Unit::Count, "9999"),
            (10_000.0, Unit::Count, "10.0k"),
            (12_345_678.0, Unit::Count, "12.3M"),
            (0.95, Unit::Ratio, "0.950"),
            (-12_500.0, Unit::Nanoseconds, "-12.5us"),
            (-0.000_01, Unit::Ratio, "0.000"),
            (f64::NAN, Unit::Bytes, "n/a"),
            (f64::INFINITY, Unit::Nanoseconds, "n/a"),
        ];
        for (value, unit, expected) in table {
            assert_eq!(format_value(value, unit), expected, "{value} {unit:?}");
        }
    }

    #[test]
    fn a_pair_shares_unit_and_decimals() {
        let table = [
            (50_100.0, 40_200.0, Unit::Nanoseconds, "50.1us", "40.2us"),
            (99_800.0, 100_800.0, Unit::Nanoseconds, "99.8us", "100.8us"),
            (999.0, 1_001.0, Unit::Nanoseconds, "0.999us", "1.001us"),
            (9_870.0, 12_340.0, Unit::Nanoseconds, "9.87us", "12.34us"),
            (10_000.0, 15_000.0, Unit::PerSecond, "10.0k/s", "15.0k/s"),
            (222_298_112.0, 223_346_688.0, Unit::Bytes, "212 MiB", "213 MiB"),
            (3.0, 2e9, Unit::Nanoseconds, "3.00ns", "2.00s"),
            (0.0, 1_500.0, Unit::Nanoseconds, "0.00us", "1.50us"),
            (0.0, 0.0, Unit::Nanoseconds, "0ns", "0ns"),
            (9_999.0, 10_001.0, Unit::Count, "10.0k", "10.0k"),
            (1_802.0, 1_803.0, Unit::Count, "1802", "1803"),
            (f64::NAN, 5.0, Unit::Nanoseconds, "n/a", "5.00ns"),
        ];
        for (baseline, challenger, unit, left, right) in table {
            let shown = format_pair(baseline, challenger, unit);
            assert_eq!(shown, (left.to_owned(), right.to_owned()), "{baseline} {challenger} {unit:?}");
        }
    }

    #[test]
    fn changes_are_signed_percent() {
        let table = [
            (-0.198, "-19.8%"),
            (0.5, "+50%"),
            (0.005, "+0.5%"),
            (-0.002_64, "-0.3%"),
            (0.01, "+1%"),
            (0.000_4, "+0.04%"),
            (0.0, "0%"),
            (-0.000_000_1, "0%"),
            (1.234, "+123%"),
            (99.0, "+9900%"),
            (-1.0, "-100%"),
            (f64::NAN, "n/a"),
        ];
        for (change, expected) in table {
            assert_eq!(format_change(change), expected, "{change}");
        }
    }
}
