//! Counts outcomes, and reads everything else when it is scraped.
