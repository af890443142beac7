//! The binary `host`; everything it can do is in [`anymc3d_host::cli`].

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    anymc3d_host::cli::main()
}
