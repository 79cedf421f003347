//! Compiled lists, opened from disk and read in place.
