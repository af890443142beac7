//! Plugins as built libraries: loading, the ABI over time, isolation, reload, the check, and plugins of other workspaces.

mod evolution;
mod isolation;
mod patch_pooling;
mod plugin_check;
mod plugin_loading;
mod plugin_new;
mod reload;
mod result_writers;
mod segmentation;
mod test_kit;
mod third_party;
mod whole_path;
