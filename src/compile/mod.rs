//! Many lists become one snapshot file: merged in bounded memory, checked by guards, published whole.
