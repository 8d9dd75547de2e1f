//! Numbers and names for people.

use crate::error::grouped;

/// What stands for a value that is not known.
pub(crate) const NONE: &str = "–";

/// `1,234,567`, with a narrow space that does not break: `1 234 567`.
pub(crate) fn count(n: u64) -> String {
    grouped(n, '\u{202f}')
}

/// Three significant digits: `0.0123`, `1.23`, `12.3`, `123`, `1 230`.
pub(crate) fn significant(x: f64) -> String {
    if x == 0.0 || !x.is_finite() {
        return if x == 0.0 { "0".into() } else { NONE.into() };
    }
    // The exponent after rounding: 0.9996 is 1.00.
    let exponent = format!("{x:.2e}").rsplit('e').next().and_then(|e| e.parse::<i32>().ok()).unwrap_or(0);
    let places = 2 - exponent;
    match places {
        ..=0 => {
            let unit = 10f64.powi(-places);
            let rounded = count(((x.abs() / unit).round() * unit) as u64);
            if x < 0.0 { format!("−{rounded}") } else { rounded }
        }
        _ => format!("{x:.*}", places.min(9) as usize),
    }
}

/// `1.23 k`, `4.56 M` and so on, with a unit: `12.3 TFLOP`.
pub(crate) fn si(x: f64, unit: &str) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    if x == 0.0 {
        return format!("0 {unit}").trim_end().to_string();
    }
    // Rounded first, so that 999.9 becomes 1.00 k.
    let step = (x.abs() * 1.0005).log10().div_euclid(3.0).clamp(0.0, PREFIXES.len() as f64 - 1.0) as usize;
    let value = significant(x / 1000f64.powi(step as i32));
    format!("{value}\u{a0}{}{unit}", PREFIXES[step]).trim_end().to_string()
}

/// `0.42 s`, `42 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1}\u{a0}s");
    }
    let s = seconds.round() as u64;
    let two = |a: u64, unit: &str, b: u64, small: &str| match b {
        0 => format!("{a}\u{a0}{unit}"),
        _ => format!("{a}\u{a0}{unit}\u{a0}{b}\u{a0}{small}"),
    };
    match s {
        0..60 => format!("{s}\u{a0}s"),
        60..3600 => two(s / 60, "min", s % 60, "s"),
        _ => two(s / 3600, "h", s % 3600 / 60, "min"),
    }
}

/// `1 character`, `12 characters`.
pub(crate) fn characters(n: usize) -> String {
    format!("{}\u{a0}character{}", count(n as u64), if n == 1 { "" } else { "s" })
}

/// `12.3 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}\u{a0}%", 100.0 * share)
}

/// Paths by their last parts, unless two would be the same.
pub(crate) fn short_names(names: &[&str]) -> Vec<String> {
    let last = |name: &str| name.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(name).to_string();
    let short: Vec<String> = names.iter().map(|name| last(name)).collect();
    let unique = short.iter().all(|a| !a.is_empty() && short.iter().filter(|b| *b == a).count() == 1);
    if unique { short } else { names.iter().map(|name| name.to_string()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_well() {
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(
            [0.0, 0.01234, 1.0, 12.345, 999.6, 1234.0].map(significant),
            ["0", "0.0123", "1.00", "12.3", "1\u{202f}000", "1\u{202f}230"]
        );
        assert_eq!(si(1.5e12, "FLOP"), "1.50\u{a0}TFLOP");
        assert_eq!(si(999.9, ""), "1.00\u{a0}k");
        assert_eq!(
            [0.42, 42.0, 200.0, 7500.0, 3600.0].map(duration).map(|s| s.replace('\u{a0}', " ")),
            ["0.4 s", "42 s", "3 min 20 s", "2 h 5 min", "1 h"]
        );
        assert_eq!(short_names(&["runs/a", "runs/b/"]), ["a", "b"]);
        assert_eq!(short_names(&["x/a", "y/a"]), ["x/a", "y/a"]);
    }
}
