//! Studies from a fake archive to results in it.
