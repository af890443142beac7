//! Made-up scans for tests.
