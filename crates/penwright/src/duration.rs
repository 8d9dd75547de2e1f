//! Durations as people write them: `90s`, `10m`, `1h30m`.

use std::time::Duration;

/// Reads a duration such as `90s`, `10m`, `1h30m` or `2d`.
///
/// # Errors
/// A sentence that says how durations are written.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write it like 90s, 10m or 1h30m");
    let (mut seconds, mut number) = (0.0, String::new());
    for c in text.chars() {
        let unit = match c {
            '0'..='9' | '.' => {
                number.push(c);
                continue;
            }
            's' => 1.0,
            'm' => 60.0,
            'h' => 3600.0,
            'd' => 86400.0,
            _ => return Err(wrong()),
        };
        seconds += unit * number.parse::<f64>().map_err(|_| wrong())?;
        number.clear();
    }
    if !number.is_empty() || seconds <= 0.0 {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Writes a duration so that [`parse`] gives it back: `1h30m`, `90s` as `1m30s`, `0.5s`.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let mut text = String::new();
    for (unit, count) in [("d", seconds / 86400), ("h", seconds / 3600 % 24), ("m", seconds / 60 % 60)] {
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    let rest = (seconds % 60) as f64 + f64::from(duration.subsec_nanos()) / 1e9;
    if rest > 0.0 || text.is_empty() { format!("{text}{rest}s") } else { text }
}

/// A duration in a settings file, as text.
pub(crate) mod text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => s.serialize_str(&super::format(*duration)),
            None => s.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(d)?.map(|text| super::parse(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_documented() {
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "10", "m", "-3s", "1x", "0s", "1h30"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn written_durations_read_the_same() {
        for millis in [500, 1_000, 59_000, 60_000, 90_500, 3_600_000, 86_400_000, 93_784_250] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&format(duration)), Ok(duration), "{}", format(duration));
        }
    }
}
