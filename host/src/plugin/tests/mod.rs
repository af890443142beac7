//! Tests of the plugin room that need no built library.

mod gradients;
mod handles;
mod losses;
mod volumes;

/// A GPU where this machine and this build have one, else the processor: where numbers are compared with themselves.
fn device() -> candle_core::Device {
    static DEVICE: std::sync::OnceLock<candle_core::Device> = std::sync::OnceLock::new();
    let open = || crate::device::DeviceChoice::Auto.open(None).unwrap_or(candle_core::Device::Cpu);
    DEVICE.get_or_init(open).clone()
}
