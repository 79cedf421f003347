//! Judges an answer by the same policy as a question.
