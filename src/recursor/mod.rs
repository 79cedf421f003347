//! Asks the world: a question in, an answer and its security out.
