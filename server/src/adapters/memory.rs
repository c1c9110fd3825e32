//! Returns free memory to the operating system.

/// Searches the heaps of the allocator for free pages, and returns them. It takes milliseconds, in which
/// other threads may wait for memory.
pub fn return_free_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` may be called at any time from any thread; it touches only what is free.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
