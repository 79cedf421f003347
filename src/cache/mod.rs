//! What the world said, in wire form, until its time is over.
