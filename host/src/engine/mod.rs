//! One backbone and many plugins: from scans to predictions.
