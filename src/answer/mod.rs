//! Replies: blocked forms, errors, Extended DNS Errors, EDNS, truncation.
