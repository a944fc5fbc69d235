//! Wall clock, monotonic clock, and which boot this is.
/// Now, RFC 3339 UTC with nanoseconds (`2026-11-21T03:15:19.123456789Z`).
pub fn now() -> String {
    todo!()
}
/// Nanoseconds since boot, suspended time included (CLOCK_BOOTTIME).
pub fn since_boot() -> u64 {
    todo!()
}
/// `/proc/sys/kernel/random/boot_id` (or `TXUPGRADE_TEST_BOOT_ID` in debug builds, for tests of reboots).
pub fn boot_id() -> String {
    todo!()
}
