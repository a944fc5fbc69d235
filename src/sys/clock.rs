//! Wall clock, monotonic clock, and which boot this is.
//!
//! Relies on nothing but the kernel. Promise: [`since_boot`] and [`boot_id`] together name an instant that no
//! change of the wall clock can move.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// Now, RFC 3339 UTC with nanoseconds (`2026-11-21T03:15:19.123456789Z`).
pub fn now() -> String {
    format!("{:.9}", Timestamp::now())
}

/// The instant that is `time` from now, as [`now`] writes it.
pub fn after(time: Duration) -> String {
    let then = SignedDuration::try_from(time).ok().and_then(|time| Timestamp::now().checked_add(time).ok());
    format!("{:.9}", then.unwrap_or(Timestamp::MAX))
}

/// How long it is until `instant` (RFC 3339); `None` when it is over, or is no instant.
pub fn until(instant: &str) -> Option<Duration> {
    let left = instant.parse::<Timestamp>().ok()?.duration_since(Timestamp::now());
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

/// Nanoseconds since boot, suspended time included (CLOCK_BOOTTIME).
pub fn since_boot() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// How long this process has run since it was first asked. Stands still while the process is stopped (SIGSTOP, a frozen
/// container, a machine that sleeps), so that a time limit is never over before anybody could have kept it.
pub fn ran() -> Duration {
    const TICK: Duration = Duration::from_millis(100);
    const STOPPED: Duration = Duration::from_secs(1);
    static RAN: OnceLock<Mutex<(Instant, Duration)>> = OnceLock::new();
    let ran = RAN.get_or_init(|| {
        // Somebody who has not looked for long was not stopped for as long.
        let tick = || loop {
            std::thread::sleep(TICK);
            ran();
        };
        let _ = std::thread::Builder::new().name("clock".to_owned()).spawn(tick);
        Mutex::new((Instant::now(), Duration::ZERO))
    });
    let mut ran = ran.lock().unwrap_or_else(PoisonError::into_inner);
    let (seen, before) = *ran;
    let now = Instant::now();
    *ran = (now, before + now.duration_since(seen).min(STOPPED));
    ran.1
}

/// How long something may take: `usual`, or in debug builds the milliseconds that the environment variable says, for tests
/// of what happens when that is over.
pub fn limit(variable: &str, usual: Duration) -> Duration {
    let asked = if cfg!(debug_assertions) { std::env::var(variable).ok() } else { None };
    asked.and_then(|text| text.parse().ok()).map_or(usual, Duration::from_millis)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_rfc_3339_in_utc_with_nanoseconds() {
        let now = now();
        assert_eq!(now.len(), "2026-11-21T03:15:19.123456789Z".len(), "{now}");
        assert!(now.ends_with('Z'));
        assert!(now.parse::<Timestamp>().is_ok());
    }

    #[test]
    fn what_is_to_come_is_over_when_it_is_past() {
        let minute = Duration::from_secs(60);
        let left = until(&after(minute)).unwrap();
        assert!(left <= minute && left > Duration::from_secs(59));
        assert_eq!(until(&now()), None);
        assert_eq!(until("tomorrow"), None);
        assert!(until(&after(Duration::MAX)).is_some());
    }

    #[test]
    fn time_since_boot_only_grows() {
        let before = since_boot();
        assert!(before > 0);
        assert!(since_boot() >= before);
    }

    #[test]
    fn the_time_that_it_ran_goes_on_also_when_nobody_looks() {
        let (before, began) = (ran(), Instant::now());
        std::thread::sleep(Duration::from_millis(1500));
        let (passed, ran) = (began.elapsed(), ran() - before);
        assert!(ran > Duration::from_secs(1) && ran < passed + Duration::from_millis(100), "{ran:?} of {passed:?}");
    }

    #[test]
    fn a_boot_has_one_id() {
        assert_eq!(boot_id(), boot_id());
        assert!(!boot_id().is_empty());
    }
}
