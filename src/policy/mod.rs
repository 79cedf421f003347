//! What the operator and the lists say about a name: pure and synchronous.
