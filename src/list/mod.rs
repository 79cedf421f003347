//! Sources of rules: where lists come from, the syntaxes they are written in, and the report on each.
