//! How memory goes back to the system.

/// From here on a buffer of a mebibyte or more goes back to the system as soon as it is freed. glibc by itself keeps more
/// and more of them once the first was freed (mallopt(3), "dynamic mmap threshold"): a fifth of what a restore of
/// 140,000 files takes at its peak.
pub fn give_back_large_buffers() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it changes a number in the allocator; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20)
    };
}
