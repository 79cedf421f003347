//! Starts everything in order, reloads, drains and stops.
