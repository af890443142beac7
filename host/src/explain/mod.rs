//! Where the model looked: heatmaps on the scan's own grid, and pictures of them.
