//! Signatures as they were made when the scenarios were written.
//!
//! Many conversations date from 2006 to 2018 and are signed with RSA keys of
//! 512 bits, with SHA-1, or with DSA. No validator should accept these any
//! more, and ours does not. What the conversations test, which answer is
//! proven by which signature, is as true today as it was then; so they are
//! played with this verifier in place of production's. It checks each
//! signature for real, by crates that still can; nothing is re-signed, and
//! what was broken on purpose stays broken.

use dsa::{Components, VerifyingKey};
use qalqan::recursor::dnssec::algorithms::number::{
    DSA, DSA_NSEC3_SHA1, RSASHA1, RSASHA1_NSEC3_SHA1, RSASHA256, RSASHA512,
};
use qalqan::recursor::dnssec::algorithms::{Algorithms, StandardAlgorithms, rsa_components};
use rsa::signature::hazmat::PrehashVerifier;
use rsa::{BoxedUint, Pkcs1v15Sign, PublicKey};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

/// Production's algorithms, RSA keys of any size, SHA-1 and DSA.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LegacyAlgorithms;

impl Algorithms for LegacyAlgorithms {
    fn supports(&self, algorithm: u8) -> bool {
        matches!(algorithm, DSA | DSA_NSEC3_SHA1 | RSASHA1 | RSASHA1_NSEC3_SHA1)
            || StandardAlgorithms::default().supports(algorithm)
    }

    fn verify(&self, algorithm: u8, public_key: &[u8], data: &[u8], signature: &[u8]) -> bool {
        match algorithm {
            DSA | DSA_NSEC3_SHA1 => verify_dsa(public_key, data, signature).unwrap_or(false),
            RSASHA1 | RSASHA1_NSEC3_SHA1 => {
                verify_rsa(public_key, Pkcs1v15Sign::new::<Sha1>(), &Sha1::digest(data), signature)
            }
            RSASHA256 => verify_rsa(public_key, Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(data), signature),
            RSASHA512 => verify_rsa(public_key, Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(data), signature),
            _ => StandardAlgorithms::default().verify(algorithm, public_key, data, signature),
        }
    }
}

fn verify_rsa(public_key: &[u8], scheme: Pkcs1v15Sign, hash: &[u8], signature: &[u8]) -> bool {
    let Some((exponent, modulus)) = rsa_components(public_key) else { return false };
    let key = PublicKey::new_with_size_limits(number(modulus), number(exponent), 256..=8192);
    key.is_ok_and(|key| key.verify(scheme, hash, signature).is_ok())
}

/// A key of T, Q, P, G, Y and a signature of T, R, S (RFC 2536, sections 2 and 3).
fn verify_dsa(public_key: &[u8], data: &[u8], signature: &[u8]) -> Option<bool> {
    let (&[size], rest) = public_key.split_first_chunk()?;
    let len = 64 + usize::from(size) * 8;
    let (q, rest) = rest.split_at_checked(20)?;
    let (p, rest) = rest.split_at_checked(len)?;
    let (g, y) = rest.split_at_checked(len)?;
    let components = Components::from_components_unchecked(number(p), number(q), number(g)).ok()?;
    let key = VerifyingKey::from_components(components, number(y)).ok()?;

    let (r, s) = match signature.len() {
        41 => signature[1..].split_at(20),
        _ => der_pair(signature)?,
    };
    let signature = dsa::Signature::from_components(number(r), number(s))?;
    Some(key.verify_prehash(&Sha1::digest(data), &signature).is_ok())
}

/// Two numbers as ASN.1 writes them: some signers of the time left DSA signatures in the form their library made.
fn der_pair(signature: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[0x30, len], rest) = signature.split_first_chunk()? else { return None };
    (usize::from(len) == rest.len()).then_some(())?;
    let (&[2, len], rest) = rest.split_first_chunk()? else { return None };
    let (r, rest) = rest.split_at_checked(usize::from(len))?;
    let (&[2, len], s) = rest.split_first_chunk()? else { return None };
    (usize::from(len) == s.len()).then_some((r, s))
}

fn number(octets: &[u8]) -> BoxedUint {
    BoxedUint::from_be_slice_vartime(octets)
}
