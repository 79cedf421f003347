//! The order of the stages, written out once.
