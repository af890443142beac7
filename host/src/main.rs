//! The binary `host`; everything it can do is in [`anymc3d_host::cli`].

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Memory that is free stays with the process. A pass through the blocks frees and asks for the same hundreds of
/// megabytes again: handed back between, the system clears them anew each time, a tenth of a training run.
#[allow(unsafe_code)]
fn keep_free_memory() {
    /// `mi_option_purge_delay`, in mimalloc 2 and 3 alike; negative is never.
    const PURGE_DELAY: std::ffi::c_int = 15;
    // SAFETY: the function of the allocator that is linked in above, as its `mimalloc.h` declares it.
    unsafe extern "C" {
        safe fn mi_option_set_default(option: std::ffi::c_int, value: std::ffi::c_long);
    }
    // Unless MIMALLOC_PURGE_DELAY says otherwise.
    mi_option_set_default(PURGE_DELAY, -1);
}

fn main() -> std::process::ExitCode {
    keep_free_memory();
    anymc3d_host::cli::main()
}
