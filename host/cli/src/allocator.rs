//! The allocator of the process, and what it does with freed memory.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps the memory in the process that is freed from here on. Every pass through the blocks frees hundreds of megabytes and
/// allocates them again. If the allocator handed them back in between, the system would clear them each time: a tenth of a
/// training run. Called once a backbone is open, so that what reading its files took goes back to the system.
#[allow(unsafe_code)]
pub(super) fn keep_free_memory() {
    /// `mi_option_purge_delay`, in mimalloc 2 and 3 alike; negative is never.
    const PURGE_DELAY: std::ffi::c_int = 15;
    // SAFETY: the function of the allocator that is linked in above, as its `mimalloc.h` declares it.
    unsafe extern "C" {
        safe fn mi_option_set_default(option: std::ffi::c_int, value: std::ffi::c_long);
    }
    // Unless MIMALLOC_PURGE_DELAY says otherwise.
    mi_option_set_default(PURGE_DELAY, -1);
}
