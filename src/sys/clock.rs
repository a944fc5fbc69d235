//! Wall clock, monotonic clock, and which boot this is.
//!
//! Relies on nothing but the kernel. Promise: [`since_boot`] and [`boot_id`] together name an instant that no
//! change of the wall clock can move.

/// Now, RFC 3339 UTC with nanoseconds (`2026-11-21T03:15:19.123456789Z`).
pub fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

/// Nanoseconds since boot, suspended time included (CLOCK_BOOTTIME).
pub fn since_boot() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// `/proc/sys/kernel/random/boot_id` (or `TXUPGRADE_TEST_BOOT_ID` in debug builds, for tests of reboots);
/// `unknown` where there is no `/proc`.
pub fn boot_id() -> String {
    if cfg!(debug_assertions)
        && let Ok(id) = std::env::var("TXUPGRADE_TEST_BOOT_ID")
        && !id.is_empty()
    {
        return id;
    }
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
}

/// The wall-clock time that is `span` from now, RFC 3339.
pub fn after(span: std::time::Duration) -> String {
    let span = jiff::SignedDuration::try_from(span).unwrap_or(jiff::SignedDuration::MAX);
    format!("{:.9}", jiff::Timestamp::now().saturating_add(span).unwrap_or(jiff::Timestamp::MAX))
}

/// How long it is until the wall-clock time `when` (RFC 3339); `None` when it is over, or is no time.
pub fn until(when: &str) -> Option<std::time::Duration> {
    let when: jiff::Timestamp = when.parse().ok()?;
    when.duration_since(jiff::Timestamp::now()).try_into().ok().filter(|left: &std::time::Duration| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_rfc_3339_in_utc_with_nanoseconds() {
        let now = now();
        assert_eq!(now.len(), "2026-11-21T03:15:19.123456789Z".len(), "{now}");
        assert!(now.ends_with('Z'));
        assert!(now.parse::<jiff::Timestamp>().is_ok());
    }

    #[test]
    fn time_since_boot_only_grows() {
        let before = since_boot();
        assert!(before > 0);
        assert!(since_boot() >= before);
    }

    #[test]
    fn a_boot_has_one_id() {
        assert_eq!(boot_id(), boot_id());
        assert!(!boot_id().is_empty());
    }
}
