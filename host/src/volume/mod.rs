//! Scans in (NIfTI), canonical volume, slices; and back onto the scan's grid.
