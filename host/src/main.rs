//! The binary `host`; everything it can do is in [`anymc3d_host::cli`].

fn main() -> std::process::ExitCode {
    anymc3d_host::cli::main()
}
