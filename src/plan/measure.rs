//! Durations and sizes as people write them.

use std::time::Duration;

/// `"10m"`, `"1h 30m"`, `"500ms"`; `Err` says what is wrong.
pub fn duration(text: &str) -> Result<Duration, String> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("a duration is empty".into());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| format!("`{text}` is not a duration"))?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let millis: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" | "sec" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err(format!("`{text}` has no unit")),
            unit => return Err(format!("`{unit}` is not a unit of time")),
        };
        total = number
            .checked_mul(millis)
            .and_then(|ms| total.checked_add(Duration::from_millis(ms)))
            .filter(|t| *t <= Duration::from_secs(3650 * 86_400))
            .ok_or_else(|| format!("`{text}` is longer than ten years"))?;
        rest = rest[letters..].trim_start();
    }
    Ok(total)
}

/// `"2 GiB"`, `"500 MB"`, `"1.5 GB"`, in bytes; `Err` says what is wrong.
pub fn size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = (&trimmed[..end], trimmed[end..].trim());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let not = || format!("`{text}` is not a size");
    if whole.is_empty() || fraction.contains('.') || fraction.len() > 6 || (number.contains('.') && fraction.is_empty())
    {
        return Err(not());
    }
    let factor: u64 = match unit {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "" => return Err(format!("`{text}` has no unit")),
        unit => return Err(format!("`{unit}` is not a unit of size")),
    };
    let too_large = || format!("`{text}` is larger than any disk");
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let scale = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| not())?);
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| not())? };
    let bytes = u128::from(whole) * u128::from(factor) + part * u128::from(factor) / scale;
    u64::try_from(bytes).ok().filter(|b| *b <= i64::MAX.unsigned_abs()).ok_or_else(too_large)
}

/// What a duration may look like, for hints.
pub(super) const DURATION_HINT: &str = "write it as `\"90s\"`, `\"10m\"`, `\"1h 30m\"` or `\"500ms\"`";
/// What a size may look like, for hints.
pub(super) const SIZE_HINT: &str = "write it as `\"2 GiB\"`, `\"500 MB\"` or a number of bytes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2 d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(duration("90").unwrap_err(), "`90` has no unit");
        assert_eq!(duration("5 weeks").unwrap_err(), "`weeks` is not a unit of time");
        assert_eq!(duration("soon").unwrap_err(), "`soon` is not a duration");
        assert_eq!(duration("-5s").unwrap_err(), "`-5s` is not a duration");
        assert_eq!(duration("").unwrap_err(), "a duration is empty");
        assert_eq!(duration("99999999999h").unwrap_err(), "`99999999999h` is longer than ten years");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("2 GiB"), Ok(2 << 30));
        assert_eq!(size("500 MB"), Ok(500_000_000));
        assert_eq!(size("1.5GB"), Ok(1_500_000_000));
        assert_eq!(size("0 B"), Ok(0));
        assert_eq!(size("12").unwrap_err(), "`12` has no unit");
        assert_eq!(size("2 G").unwrap_err(), "`G` is not a unit of size");
        assert_eq!(size("much").unwrap_err(), "`much` is not a size");
        assert_eq!(size("1. GB").unwrap_err(), "`1. GB` is not a size");
        assert_eq!(size("99999999999 TB").unwrap_err(), "`99999999999 TB` is larger than any disk");
    }
}
