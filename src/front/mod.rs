//! Where queries come in and replies go out.
