//! The HTTP API, its client, metrics and health.
