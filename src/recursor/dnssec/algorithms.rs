//! Which signatures and digests can be checked, and checking them.

use ring::{digest, signature};

use number::{ECDSAP256SHA256, ECDSAP384SHA384, ED25519, RSASHA1, RSASHA1_NSEC3_SHA1, RSASHA256, RSASHA512};

/// The cryptography of DNSSEC.
///
/// A seam: tests bring algorithms and key sizes that no production resolver accepts any more.
pub trait Algorithms: Send + Sync + 'static {
    /// Whether signatures of this algorithm can be checked.
    fn supports(&self, algorithm: u8) -> bool;

    /// Whether DS records with this digest can be checked.
    fn supports_digest(&self, digest_type: u8) -> bool {
        matches!(digest_type, SHA1 | SHA256 | SHA384)
    }

    /// Whether `signature` over `data` was made with the private half of `public_key`, both as on the wire.
    fn verify(&self, algorithm: u8, public_key: &[u8], data: &[u8], signature: &[u8]) -> bool;

    /// The digest of `data`, when the digest is supported.
    fn digest(&self, digest_type: u8, data: &[u8]) -> Option<Vec<u8>> {
        let algorithm = match digest_type {
            SHA1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            SHA256 => &digest::SHA256,
            SHA384 => &digest::SHA384,
            _ => return None,
        };
        Some(digest::digest(algorithm, data).as_ref().to_vec())
    }
}

// Digests of DS records (IANA, "DS RR Type Digest Algorithms").
const SHA1: u8 = 1;
const SHA256: u8 = 2;
const SHA384: u8 = 4;

/// The numbers of signatures (IANA, "DNS Security Algorithm Numbers").
#[allow(missing_docs)]
pub mod number {
    pub const DSA: u8 = 3;
    pub const RSASHA1: u8 = 5;
    pub const DSA_NSEC3_SHA1: u8 = 6;
    pub const RSASHA1_NSEC3_SHA1: u8 = 7;
    pub const RSASHA256: u8 = 8;
    pub const RSASHA512: u8 = 10;
    pub const ECDSAP256SHA256: u8 = 13;
    pub const ECDSAP384SHA384: u8 = 14;
    pub const ED25519: u8 = 15;
}

/// What production accepts: what validators must implement (RFC 8624, section 3.1), by ring.
///
/// RSA keys have 1024 to 8192 bits. GOST, DSA and Ed448 are not there: zones signed with nothing else are insecure.
#[derive(Debug, Clone, Copy, Default)]
pub struct StandardAlgorithms {
    /// Whether RSA signatures over SHA-1 count.
    pub accept_sha1: bool,
}

impl Algorithms for StandardAlgorithms {
    fn supports(&self, algorithm: u8) -> bool {
        match algorithm {
            RSASHA1 | RSASHA1_NSEC3_SHA1 => self.accept_sha1,
            RSASHA256 | RSASHA512 | ECDSAP256SHA256 | ECDSAP384SHA384 | ED25519 => true,
            _ => false,
        }
    }

    fn verify(&self, algorithm: u8, public_key: &[u8], data: &[u8], signature: &[u8]) -> bool {
        match algorithm {
            RSASHA1 | RSASHA1_NSEC3_SHA1 => {
                let hash = &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY;
                self.accept_sha1 && verify_rsa(hash, public_key, data, signature)
            }
            RSASHA256 => {
                verify_rsa(&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, public_key, data, signature)
            }
            RSASHA512 => {
                verify_rsa(&signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, public_key, data, signature)
            }
            ECDSAP256SHA256 => verify_ecdsa(&signature::ECDSA_P256_SHA256_FIXED, public_key, data, signature),
            ECDSAP384SHA384 => verify_ecdsa(&signature::ECDSA_P384_SHA384_FIXED, public_key, data, signature),
            ED25519 => {
                signature::UnparsedPublicKey::new(&signature::ED25519, public_key).verify(data, signature).is_ok()
            }
            _ => false,
        }
    }
}

fn verify_rsa(hash: &signature::RsaParameters, public_key: &[u8], data: &[u8], signature: &[u8]) -> bool {
    let Some((e, n)) = rsa_components(public_key) else { return false };
    signature::RsaPublicKeyComponents { n, e }.verify(hash, data, signature).is_ok()
}

/// The exponent and modulus of an RSA key, without leading zeros (RFC 3110, section 2).
pub fn rsa_components(public_key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match public_key {
        [0, high, low, rest @ ..] => (usize::from(*high) << 8 | usize::from(*low), rest),
        [len, rest @ ..] => (usize::from(*len), rest),
        [] => return None,
    };
    let (exponent, modulus) = rest.split_at_checked(len)?;
    Some((without_leading_zeros(exponent), without_leading_zeros(modulus)))
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|&&octet| octet == 0).count()..]
}

/// ECDSA keys stand on the wire without the octet that says "uncompressed" (RFC 6605, section 4).
fn verify_ecdsa(
    curve: &'static signature::EcdsaVerificationAlgorithm,
    public_key: &[u8],
    data: &[u8],
    signature: &[u8],
) -> bool {
    let mut point = Vec::with_capacity(1 + public_key.len());
    point.push(4);
    point.extend_from_slice(public_key);
    signature::UnparsedPublicKey::new(curve, point).verify(data, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sha1_counts_only_when_the_operator_says_so() {
        for algorithm in [RSASHA1, RSASHA1_NSEC3_SHA1] {
            assert!(!StandardAlgorithms::default().supports(algorithm));
            assert!(StandardAlgorithms { accept_sha1: true }.supports(algorithm));
        }
    }

    #[test]
    fn rsa_keys_have_a_short_and_a_long_form() {
        assert_eq!(rsa_components(&[1, 3, 0, 9, 9]), Some((&[3][..], &[9, 9][..])));
        assert_eq!(rsa_components(&[0, 0, 1, 3, 9]), Some((&[3][..], &[9][..])));
        assert_eq!(rsa_components(&[5, 3]), None);
        assert_eq!(rsa_components(&[]), None);
    }

    proptest! {
        #[test]
        fn any_key_and_signature_are_refused_without_panic(
            key in proptest::collection::vec(any::<u8>(), 0..300),
            signature in proptest::collection::vec(any::<u8>(), 0..300),
            algorithm in any::<u8>(),
        ) {
            let standard = StandardAlgorithms { accept_sha1: true };
            prop_assert!(!standard.verify(algorithm, &key, b"data", &signature));
        }
    }
}
