//! How much work one question may cost.

/// What is left of a question's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    signatures: u32,
    hashes: u32,
}

impl Budget {
    /// So many signatures to check and names to hash.
    pub fn new(signatures: u32, hashes: u32) -> Self {
        Self { signatures, hashes }
    }

    /// Takes the check of one signature, if one is left.
    pub fn take_signature(&mut self) -> bool {
        take(&mut self.signatures)
    }

    /// Takes the hash of one name, if one is left.
    pub fn take_hash(&mut self) -> bool {
        take(&mut self.hashes)
    }

    /// Whether nothing is left of one of them.
    pub fn is_spent(&self) -> bool {
        self.signatures == 0 || self.hashes == 0
    }
}

fn take(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}
