//! Where chains of trust begin.

/// Trust anchors by zone.
#[derive(Debug, Clone, Default)]
pub struct TrustAnchors {}

impl TrustAnchors {
    /// The keys of the root zone of 2017 and 2024.
    pub fn built_in() -> Self {
        Self::default()
    }
}
