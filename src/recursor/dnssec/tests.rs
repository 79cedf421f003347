//! The validator as a whole, against a signed world.

use crate::query::{ExtendedError, Rcode, RecordType};
use crate::recursor::Security;
use crate::recursor::Security::{Bogus, Indeterminate, Insecure, Secure};
use crate::recursor::message::Message;

use super::anchors::Anchor;
use super::fixture::*;
use super::*;

const A: RecordType = RecordType::A;
const NS: RecordType = RecordType::NS;
const DS: RecordType = RecordType::DS;
const SOA: RecordType = RecordType::SOA;
const TXT: RecordType = RecordType::TXT;

fn codes(validation: &Validation) -> Vec<u16> {
    validation.errors.iter().map(|error| error.code).collect()
}

async fn security(world: &Signed, owner: &str, qtype: RecordType, message: &Message) -> (Security, Vec<u16>) {
    let validation = world.ask(owner, qtype, message).await;
    (validation.security, codes(&validation))
}

#[tokio::test]
async fn a_signed_answer_is_secure_and_lives_no_longer_than_its_signature() {
    let world = Signed::new();
    let validation = world.ask("www.kz", A, &answer([world.kz.sign(a("www.kz"))])).await;
    assert_eq!((validation.security, validation.errors), (Secure, vec![]));
    assert_eq!(validation.answer, [SetStatus { security: Secure, ttl: 1000, wildcard: None }]);
    assert_eq!(world.world.fetched.load(std::sync::atomic::Ordering::Relaxed), 3, "DS and DNSKEY of kz, DNSKEY of .");

    world.ask("www.kz", A, &answer([world.kz.sign(a("www.kz"))])).await;
    assert_eq!(world.world.fetched.load(std::sync::atomic::Ordering::Relaxed), 3, "keys are remembered");
}

#[tokio::test]
async fn each_flaw_of_a_signature_has_its_error() {
    let world = Signed::new();
    let stranger = Signer::with_flags("kz", 9, 257);
    let mut forged = world.kz.sign(a("www.kz"));
    forged.rdata[0] = Box::from([6, 6, 6, 6]);
    let foreign = Signer::new("other.kz").sign(a("www.kz"));
    for (what, set, code) in [
        ("no signature", a("www.kz"), ExtendedError::RRSIGS_MISSING),
        ("expired", world.kz.sign_between(a("www.kz"), WALL - 20, WALL - 10), ExtendedError::SIGNATURE_EXPIRED),
        ("to come", world.kz.sign_between(a("www.kz"), WALL + 10, WALL + 20), ExtendedError::SIGNATURE_NOT_YET_VALID),
        ("another key", stranger.sign(a("www.kz")), ExtendedError::DNSKEY_MISSING),
        ("other data", forged, ExtendedError::BOGUS),
        ("a signer beside it", foreign, ExtendedError::RRSIGS_MISSING),
        ("the parent's key", world.root.sign(a("www.kz")), ExtendedError::BOGUS),
    ] {
        // The parent may sign for the child's names as far as signatures go: that is the one that must be secure.
        let expected = if what == "the parent's key" { (Secure, vec![]) } else { (Bogus, vec![code]) };
        let mut world = Signed::new();
        let no_zone = world.kz.sign(nsec("www.kz", "zz.kz", &[A, RecordType::RRSIG]));
        world.world.reply("www.kz", DS, negative(Rcode::NOERROR, [no_zone]));
        assert_eq!(security(&world, "www.kz", A, &answer([set])).await, expected, "{what}");
    }
}

#[test]
fn a_signature_at_the_turn_of_the_32_bit_clock_is_valid() {
    let world = Signed::new();
    let late = world.kz.sign_between(a("www.kz"), u64::from(u32::MAX) - 10, 1 << 32 | 20);
    let keys = [rdata::Dnskey::parse(&world.kz.dnskey).unwrap()];
    let now = signature::Moment::exact((1 << 32) + 5);
    let mut budget = Budget::new(9, 9);
    let standard = StandardAlgorithms::default();
    let signed = signature::verify(&late, &name("kz"), keys.into_iter(), &standard, &mut budget, now);
    assert_eq!(signed.unwrap().ttl, 15);
}

#[tokio::test]
async fn an_unsigned_answer_needs_a_proof_that_its_zone_is_unsigned() {
    let mut world = Signed::new();
    world.unsigned("plain.kz");
    let reply = answer([a("www.plain.kz")]);
    assert_eq!(security(&world, "www.plain.kz", A, &reply).await, (Insecure, vec![]));

    // The same zone, when a DS record is held back and the proof is for another name.
    let mut world = Signed::new();
    let other = world.kz.sign(nsec("other.kz", "p.kz", &[NS]));
    world.world.reply("plain.kz", DS, negative(Rcode::NOERROR, [other]));
    assert_eq!(security(&world, "www.plain.kz", A, &reply).await, (Bogus, vec![ExtendedError::NSEC_MISSING]));

    // The child's own record at the cut says nothing about the parent's DS.
    let mut world = Signed::new();
    let child_side = world.kz.sign(nsec("plain.kz", "zz.kz", &[NS, SOA]));
    world.world.reply("plain.kz", DS, negative(Rcode::NOERROR, [child_side]));
    assert_eq!(security(&world, "www.plain.kz", A, &reply).await.0, Bogus);
}

#[tokio::test]
async fn an_island_of_signatures_without_ds_is_insecure() {
    let mut world = Signed::new();
    world.unsigned("plain.kz");
    let island = Signer::new("plain.kz");
    let reply = answer([island.sign(a("www.plain.kz"))]);
    assert_eq!(security(&world, "www.plain.kz", A, &reply).await, (Insecure, vec![]));
}

#[tokio::test]
async fn a_zone_of_an_unknown_algorithm_or_digest_is_insecure() {
    for (algorithm, digest_type, code) in
        [(200, 2, ExtendedError::UNSUPPORTED_DNSKEY_ALGORITHM), (15, 200, ExtendedError::UNSUPPORTED_DS_DIGEST)]
    {
        let mut world = Signed::new();
        let mut ds = Signer::new("odd.kz").ds();
        (ds[2], ds[3]) = (algorithm, digest_type);
        world.world.reply("odd.kz", DS, answer([world.kz.sign(set("odd.kz", DS, [ds]))]));
        let signed = Signer::new("odd.kz").sign(a("www.odd.kz"));
        assert_eq!(security(&world, "www.odd.kz", A, &answer([signed])).await, (Insecure, vec![code]));
        assert_eq!(security(&world, "www.odd.kz", A, &answer([a("www.odd.kz")])).await, (Insecure, vec![code]));
    }
}

#[tokio::test]
async fn a_zone_whose_keys_do_not_match_its_ds_is_bogus() {
    let zone = Signer::new("sub.kz");
    let others = [
        ("another key", Signer::with_flags("sub.kz", 1, 257), ExtendedError::DNSKEY_MISSING),
        ("no zone key", Signer::with_flags("sub.kz", 0, 1), ExtendedError::NO_ZONE_KEY_BIT),
        ("a revoked key", Signer::with_flags("sub.kz", 0, 257 | 128), ExtendedError::NO_ZONE_KEY_BIT),
    ];
    for (what, other, code) in others {
        let mut world = Signed::new();
        let ds = if what == "another key" { zone.ds() } else { other.ds() };
        world.world.reply("sub.kz", DS, answer([world.kz.sign(set("sub.kz", DS, [ds]))])).keys(&other);
        let reply = answer([other.sign(a("www.sub.kz"))]);
        assert_eq!(security(&world, "www.sub.kz", A, &reply).await, (Bogus, vec![code]), "{what}");
    }

    let mut world = Signed::new();
    world.world.reply("sub.kz", DS, answer([world.kz.sign(set("sub.kz", DS, [zone.ds()]))]));
    let reply = answer([zone.sign(a("www.sub.kz"))]);
    assert_eq!(
        security(&world, "www.sub.kz", A, &reply).await,
        (Bogus, vec![ExtendedError::DNSKEY_MISSING]),
        "no keys"
    );
}

#[tokio::test]
async fn what_does_not_validate_is_asked_for_again() {
    let zone = Signer::new("sub.kz");
    let mut world = Signed::new();
    let forged = Signer::with_flags("sub.kz", 7, 257);
    world.world.reply("sub.kz", DS, answer([set("sub.kz", DS, [zone.ds()])]));
    world.world.reply("sub.kz", RecordType::DNSKEY, answer([forged.dnskey_set()]));
    world.world.delegate(&world.kz, &zone);
    let reply = answer([zone.sign(a("www.sub.kz"))]);
    assert_eq!(security(&world, "www.sub.kz", A, &reply).await, (Secure, vec![]));
}

#[tokio::test]
async fn the_worst_link_of_a_chain_of_aliases_decides() {
    let mut world = Signed::new();
    world.unsigned("plain.kz");
    let first = || world.kz.sign(cname("www.kz", "www.test"));
    let secure = answer([first(), world.test.sign(a("www.test"))]);
    assert_eq!(security(&world, "www.kz", A, &secure).await, (Secure, vec![]));

    let to_plain = answer([world.kz.sign(cname("www.kz", "www.plain.kz")), a("www.plain.kz")]);
    let validation = world.ask("www.kz", A, &to_plain).await;
    assert_eq!(validation.security, Insecure);
    assert_eq!(validation.answer.iter().map(|status| status.security).collect::<Vec<_>>(), [Secure, Insecure]);

    let mut world = world;
    let no_zone = world.test.sign(nsec("www.test", "zz.test", &[A]));
    world.world.reply("www.test", DS, negative(Rcode::NOERROR, [no_zone]));
    let stripped = answer([world.kz.sign(cname("www.kz", "www.test")), a("www.test")]);
    assert_eq!(security(&world, "www.kz", A, &stripped).await, (Bogus, vec![ExtendedError::RRSIGS_MISSING]));
}

#[tokio::test]
async fn a_cname_follows_from_its_dname_or_is_forged() {
    let mut world = Signed::new();
    let no_zone = world.kz.sign(nsec("d.kz", "zz.kz", &[RecordType::DNAME]));
    world.world.reply("d.kz", DS, negative(Rcode::NOERROR, [no_zone.clone()]));
    let dname_reply = answer([world.kz.sign(dname("d.kz", "test"))]);
    world.world.reply("www.d.kz", DS, dname_reply);
    let redirected = |target: &str| {
        answer([world.kz.sign(dname("d.kz", "test")), cname("www.d.kz", target), world.test.sign(a("www.test"))])
    };
    assert_eq!(security(&world, "www.d.kz", A, &redirected("www.test")).await, (Secure, vec![]));
    let forged =
        answer([world.kz.sign(dname("d.kz", "test")), cname("www.d.kz", "evil.test"), world.test.sign(a("evil.test"))]);
    assert_eq!(security(&world, "www.d.kz", A, &forged).await.0, Bogus);
}

#[tokio::test]
async fn an_alias_in_place_of_a_ds_record_must_be_the_names_own() {
    let zone = Signer::new("sub.kz");
    let reply = answer([zone.sign(a("www.sub.kz"))]);
    let alias = |world: &Signed| answer([world.kz.sign_expanded(cname("*.kz", "x.kz"), "sub.kz")]);

    // An expanded wildcard without proof that nothing is closer hides the DS record; another server tells.
    let mut world = Signed::new();
    let (hidden, ds) = (alias(&world), answer([world.kz.sign(set("sub.kz", DS, [zone.ds()]))]));
    world.world.reply("sub.kz", DS, hidden).reply("sub.kz", DS, ds).keys(&zone);
    assert_eq!(security(&world, "www.sub.kz", A, &reply).await, (Secure, vec![]));

    // With the proof there is no zone, and nobody else may sign there.
    let mut world = Signed::new();
    let proof = world.kz.sign(nsec("a.kz", "z.kz", &[A]));
    let proven = Message { authority: vec![proof], ..alias(&world) };
    world.world.reply("sub.kz", DS, proven).keys(&zone);
    assert_eq!(security(&world, "www.sub.kz", A, &reply).await, (Bogus, vec![ExtendedError::BOGUS]));
}

#[tokio::test]
async fn what_the_message_says_about_a_zone_cut_is_not_asked_for() {
    let world = Signed::new();
    let cut = world.kz.sign(nsec("plain.kz", "z.kz", &[NS, RecordType::RRSIG, RecordType::NSEC]));
    let reply = Message { authority: vec![cut], ..answer([a("www.plain.kz")]) };
    assert_eq!(security(&world, "www.plain.kz", A, &reply).await, (Insecure, vec![]));

    // Its word counts only when it is signed.
    let world = Signed::new();
    let forged = nsec("plain.kz", "z.kz", &[NS, RecordType::RRSIG, RecordType::NSEC]);
    let reply = Message { authority: vec![forged], ..answer([a("www.plain.kz")]) };
    assert_eq!(security(&world, "www.plain.kz", A, &reply).await.0, Bogus);
}

#[tokio::test]
async fn every_algorithm_must_sign_where_the_operator_wants_it() {
    for (require_all_algorithms, expected) in [(false, Secure), (true, Bogus)] {
        let mut world = Signed::with_settings(Settings { require_all_algorithms, ..Settings::default() });
        let zone = Signer::new("sub.kz");
        let mut other = zone.ds();
        other[2] = 13;
        world.world.reply("sub.kz", DS, answer([world.kz.sign(set("sub.kz", DS, [zone.ds(), other]))])).keys(&zone);
        assert_eq!(security(&world, "www.sub.kz", A, &answer([zone.sign(a("www.sub.kz"))])).await.0, expected);
        assert_eq!(security(&world, "www.kz", A, &answer([world.kz.sign(a("www.kz"))])).await.0, Secure);
    }
}

#[tokio::test]
async fn a_wildcard_needs_a_proof_that_nothing_is_closer() {
    let mut world = Signed::new();
    world.world.reply("host.kz", DS, negative(Rcode::NXDOMAIN, []));
    let expanded = world.kz.sign_expanded(a("*.kz"), "host.kz");
    let with = |denials: Vec<_>| Message { authority: denials, ..answer([expanded.clone()]) };

    let good = with(vec![world.kz.sign(nsec("a.kz", "z.kz", &[A]))]);
    let validation = world.ask("host.kz", A, &good).await;
    assert_eq!((validation.security, &validation.answer[0].wildcard), (Secure, &Some(name("*.kz"))));
    assert_eq!(validation.denials.len(), 1);

    for bad in [vec![], vec![world.kz.sign(nsec("a.kz", "b.kz", &[A]))], vec![nsec("a.kz", "z.kz", &[A])]] {
        assert_eq!(security(&world, "host.kz", A, &with(bad)).await.0, Bogus);
    }

    let expanded = world.test.sign_expanded(a("*.test"), "host.test");
    for (flags, expected) in [(0, Secure), (1, Insecure)] {
        let cover = world.test.sign(nsec3("test", "host.test", Span::Covers, flags, &[]));
        let reply = Message { authority: vec![cover], ..answer([expanded.clone()]) };
        assert_eq!(security(&world, "host.test", A, &reply).await.0, expected);
    }
}

#[tokio::test]
async fn nsec_proves_what_is_missing() {
    let world = Signed::new();
    let sign = |sets: Vec<_>| sets.into_iter().map(|set| world.kz.sign(set)).collect::<Vec<_>>();
    let with_soa = |mut sets: Vec<_>| {
        sets.push(soa("kz"));
        sets
    };
    for (what, rcode, sets, expected) in [
        ("name error", Rcode::NXDOMAIN, vec![nsec("a.kz", "z.kz", &[A]), nsec("kz", "a.kz", &[SOA, NS])], Secure),
        ("one record for both", Rcode::NXDOMAIN, vec![nsec("kz", "z.kz", &[SOA, NS])], Secure),
        ("no word about the wildcard", Rcode::NXDOMAIN, vec![nsec("a.kz", "z.kz", &[A])], Bogus),
        ("the name exists", Rcode::NXDOMAIN, vec![nsec("n.kz", "z.kz", &[A]), nsec("kz", "a.kz", &[SOA, NS])], Bogus),
        (
            "a name below exists",
            Rcode::NXDOMAIN,
            vec![nsec("a.kz", "b.n.kz", &[A]), nsec("kz", "a.kz", &[SOA, NS])],
            Secure,
        ),
        ("no data", Rcode::NOERROR, vec![nsec("n.kz", "z.kz", &[TXT])], Secure),
        ("there is data", Rcode::NOERROR, vec![nsec("n.kz", "z.kz", &[A])], Bogus),
        ("there is an alias", Rcode::NOERROR, vec![nsec("n.kz", "z.kz", &[RecordType::CNAME])], Bogus),
        ("a delegation", Rcode::NOERROR, vec![nsec("n.kz", "z.kz", &[NS])], Bogus),
        ("an empty name", Rcode::NOERROR, vec![nsec("a.kz", "b.n.kz", &[A])], Secure),
        (
            "a wildcard without it",
            Rcode::NOERROR,
            vec![nsec("a.kz", "z.kz", &[A]), nsec("*.kz", "a.kz", &[TXT])],
            Secure,
        ),
        ("a wildcard with it", Rcode::NOERROR, vec![nsec("a.kz", "z.kz", &[A]), nsec("*.kz", "a.kz", &[A])], Bogus),
        ("nothing", Rcode::NOERROR, vec![], Bogus),
    ] {
        let mut world = Signed::new();
        world.world.reply("n.kz", DS, negative(Rcode::NOERROR, sign(vec![nsec("n.kz", "z.kz", &[A])])));
        let reply = negative(rcode, sign(with_soa(sets)));
        assert_eq!(security(&world, "n.kz", A, &reply).await.0, expected, "{what}");
    }
}

#[tokio::test]
async fn a_name_error_that_is_proven_as_no_data_is_no_data() {
    let world = Signed::new();
    let reply = negative(Rcode::NXDOMAIN, [world.kz.sign(soa("kz")), world.kz.sign(nsec("a.kz", "b.n.kz", &[A]))]);
    let validation = world.ask("n.kz", A, &reply).await;
    assert_eq!((validation.security, validation.rcode), (Secure, Rcode::NOERROR));
}

#[tokio::test]
async fn a_name_error_beside_what_was_asked_for_is_none() {
    let world = Signed::new();
    let reply = Message { rcode: Rcode::NXDOMAIN, ..answer([world.kz.sign(a("www.kz"))]) };
    let validation = world.ask("www.kz", A, &reply).await;
    assert_eq!((validation.security, validation.rcode), (Secure, Rcode::NOERROR));
}

#[tokio::test]
async fn a_denial_from_above_a_cut_or_a_dname_says_nothing_about_names_below() {
    for types in [&[NS, DS][..], &[NS], &[RecordType::DNAME]] {
        let mut world = Signed::new();
        let zone = Signer::new("sub.kz");
        world.world.delegate(&world.kz, &zone);
        let no_zone = zone.sign(nsec("n.sub.kz", "z.sub.kz", &[A]));
        world.world.reply("n.sub.kz", DS, negative(Rcode::NOERROR, [no_zone]));
        let above = world.kz.sign(nsec("sub.kz", "z.kz", types));
        let reply = negative(Rcode::NXDOMAIN, [world.kz.sign(soa("kz")), above]);
        assert_eq!(security(&world, "n.sub.kz", A, &reply).await.0, Bogus, "{types:?}");
    }
}

#[tokio::test]
async fn nsec3_proves_what_is_missing() {
    use Span::{Covers, Matches};
    let t = "test";
    let apex = || nsec3(t, "test", Matches, 0, &[SOA, NS]);
    let cases = [
        (
            "name error",
            Rcode::NXDOMAIN,
            vec![apex(), nsec3(t, "n.test", Covers, 0, &[]), nsec3(t, "*.test", Covers, 0, &[])],
            Secure,
        ),
        (
            "opt-out",
            Rcode::NXDOMAIN,
            vec![apex(), nsec3(t, "n.test", Covers, 1, &[]), nsec3(t, "*.test", Covers, 1, &[])],
            Insecure,
        ),
        ("no word about the wildcard", Rcode::NXDOMAIN, vec![apex(), nsec3(t, "n.test", Covers, 0, &[])], Bogus),
        (
            "no closest encloser",
            Rcode::NXDOMAIN,
            vec![nsec3(t, "n.test", Covers, 0, &[]), nsec3(t, "*.test", Covers, 0, &[])],
            Bogus,
        ),
        ("no next closer", Rcode::NXDOMAIN, vec![apex(), nsec3(t, "*.test", Covers, 0, &[])], Bogus),
        ("no data", Rcode::NOERROR, vec![nsec3(t, "n.test", Matches, 0, &[TXT])], Secure),
        ("no data in an opt-out span", Rcode::NOERROR, vec![nsec3(t, "n.test", Matches, 1, &[TXT])], Secure),
        ("there is data", Rcode::NOERROR, vec![nsec3(t, "n.test", Matches, 0, &[A])], Bogus),
        ("there is an alias", Rcode::NOERROR, vec![nsec3(t, "n.test", Matches, 0, &[RecordType::CNAME])], Bogus),
        ("an empty name", Rcode::NOERROR, vec![nsec3(t, "n.test", Matches, 0, &[])], Secure),
        ("a signed delegation", Rcode::NOERROR, vec![nsec3(t, "n.test", Matches, 0, &[NS, DS])], Bogus),
        (
            "a wildcard without it",
            Rcode::NOERROR,
            vec![apex(), nsec3(t, "n.test", Covers, 0, &[]), nsec3(t, "*.test", Matches, 0, &[TXT])],
            Secure,
        ),
        (
            "a wildcard with it",
            Rcode::NOERROR,
            vec![apex(), nsec3(t, "n.test", Covers, 0, &[]), nsec3(t, "*.test", Matches, 0, &[A])],
            Bogus,
        ),
        ("too many iterations", Rcode::NXDOMAIN, vec![nsec3_with(t, "n.test", Covers, 0, 151, &[])], Insecure),
        ("an unknown flag", Rcode::NOERROR, vec![nsec3(t, "n.test", Matches, 2, &[TXT])], Bogus),
    ];
    for (what, rcode, sets, expected) in cases {
        let mut world = Signed::new();
        let there = world.test.sign(nsec3(t, "n.test", Matches, 0, &[A]));
        world.world.reply("n.test", DS, negative(Rcode::NOERROR, [there]));
        let sets = sets.into_iter().chain([soa("test")]).map(|set| world.test.sign(set)).collect::<Vec<_>>();
        let reply = negative(rcode, sets);
        assert_eq!(security(&world, "n.test", A, &reply).await.0, expected, "{what}");
    }
}

#[tokio::test]
async fn an_opt_out_span_makes_an_unsigned_delegation_insecure() {
    use Span::{Covers, Matches};
    for (flags, expected) in [(1, Insecure), (0, Bogus)] {
        let mut world = Signed::new();
        let proof = [nsec3("test", "test", Matches, 0, &[SOA, NS]), nsec3("test", "sub.test", Covers, flags, &[])];
        let proof = proof.map(|set| world.test.sign(set));
        world.world.reply("sub.test", DS, negative(Rcode::NOERROR, proof));
        assert_eq!(security(&world, "www.sub.test", A, &answer([a("www.sub.test")])).await.0, expected, "{flags}");
    }
}

#[tokio::test]
async fn a_ds_record_is_the_parents() {
    let mut world = Signed::new();
    let zone = Signer::new("sub.kz");
    world.world.delegate(&world.kz, &zone);
    let parents = answer([world.kz.sign(set("sub.kz", DS, [zone.ds()]))]);
    assert_eq!(security(&world, "sub.kz", DS, &parents).await, (Secure, vec![]));
    let childs = answer([zone.sign(set("sub.kz", DS, [zone.ds()]))]);
    assert_eq!(security(&world, "sub.kz", DS, &childs).await.0, Bogus);

    let none = negative(Rcode::NOERROR, [world.kz.sign(soa("kz")), world.kz.sign(nsec("sub.kz", "z.kz", &[NS]))]);
    assert_eq!(security(&world, "sub.kz", DS, &none).await, (Secure, vec![]));
    let childs_none =
        negative(Rcode::NOERROR, [zone.sign(soa("sub.kz")), zone.sign(nsec("sub.kz", "a.sub.kz", &[NS, SOA]))]);
    assert_eq!(security(&world, "sub.kz", DS, &childs_none).await.0, Bogus);
}

#[tokio::test]
async fn no_anchor_and_a_negative_anchor_end_validation() {
    let world = Signed::with_settings(Settings { negative_anchors: vec![name("kz")], ..Settings::default() });
    assert_eq!(security(&world, "www.kz", A, &answer([a("www.kz")])).await, (Insecure, vec![]));
    assert_eq!(security(&world, "www.test", A, &answer([world.test.sign(a("www.test"))])).await, (Secure, vec![]));
    world.validator.replace_anchors(TrustAnchors::default());
    assert_eq!(security(&world, "www.test", A, &answer([a("www.test")])).await, (Indeterminate, vec![]));
}

#[tokio::test]
async fn a_signer_above_the_anchor_has_no_say() {
    let world = Signed::new();
    let mut anchors = TrustAnchors::default();
    anchors.set(&name("kz"), Anchor { ds: vec![world.kz.ds().into()], keys: vec![] });
    world.validator.replace_anchors(anchors);
    assert_eq!(security(&world, "www.kz", A, &answer([world.kz.sign(a("www.kz"))])).await.0, Secure);
    assert_eq!(security(&world, "www.kz", A, &answer([world.root.sign(a("www.kz"))])).await.0, Bogus);
    assert_eq!(security(&world, "www.test", A, &answer([a("www.test")])).await.0, Indeterminate);
}

#[tokio::test]
async fn work_for_one_question_is_bounded() {
    // Many keys of one tag and many signatures that do not verify ("KeyTrap").
    let world = Signed::with_settings(Settings { signature_checks: 40, ..Settings::default() });
    let mut many = a("www.kz");
    for octet in 0..200u8 {
        let mut signed = world.kz.sign(set("www.kz", A, [vec![192, 0, 2, octet]]));
        many.signatures.append(&mut signed.signatures);
    }
    many.rdata[0] = Box::from([6, 6, 6, 6]);
    let validation = world.ask("www.kz", A, &answer([many])).await;
    assert_eq!(validation.security, Bogus);
    assert!(validation.errors[0].text.contains("too many signatures"), "{:?}", validation.errors);

    // A name of many labels, each of which must be hashed.
    let world = Signed::with_settings(Settings { nsec3_hashes: 20, ..Settings::default() });
    let deep = format!("{}n.test", "a.".repeat(40));
    let far = world.test.sign(nsec3("test", "unrelated.test", Span::Matches, 0, &[A]));
    let validation = world.ask(&deep, A, &negative(Rcode::NXDOMAIN, [world.test.sign(soa("test")), far])).await;
    assert_eq!(validation.security, Bogus);
    assert!(validation.errors[0].text.contains("too many hashes"), "{:?}", validation.errors);
}

#[test]
fn the_future_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    let world = Signed::new();
    let (question, message) = (Question::new(&name("kz"), A), Message::default());
    is_send(world.validator.validate(&question, &message, &world.world, NOW));
}
