//! `cargo run --release --example kernel_bench [BACKBONE_DIR] [--no-plain]`

fn main() -> Result<(), anymc3d_host::backbone::BackboneError> {
    let mut dir = String::from("backbones/dinov2-small");
    let mut plain = true;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--no-plain" => plain = false,
            other => dir = other.to_string(),
        }
    }
    anymc3d_host::backbone::kernels::bench::run(std::path::Path::new(&dir), plain)
}
