//! The configuration file as written becomes a checked `Config`.
