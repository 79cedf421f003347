//! Whether an answer is proven: signatures, denial of existence, the chain of trust.
