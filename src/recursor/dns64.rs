//! Addresses for clients that have nothing but IPv6 (DNS64, RFC 6147).
//!
//! A name that has only IPv4 addresses is given the IPv6 addresses under which
//! a translator (NAT64) forwards to them, and the reverse names of those are
//! answered from the reverse names of the IPv4 addresses inside.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::name::{DomainName, Name};
use crate::query::{Question, Rcode, RecordType};

use super::dnssec::Validation;
use super::iterate::Source;
use super::message::{Message, Rdata};
use super::nat64::Nat64Prefix;
use super::work::{Failure, Work};
use super::{Engine, Security, scrub};

/// How addresses are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The translator's prefix.
    pub prefix: Nat64Prefix,
    /// Names, with all below them, whose own IPv6 addresses are passed over.
    pub ignore_aaaa: Vec<DomainName>,
}

/// The longest that made addresses are kept when nothing says for how long the name has none of its own
/// (RFC 6147, section 5.1.7).
const LONGEST: u32 = 600;

impl Settings {
    /// Whether answers to `question` may be made here, so that they hold for its DO and CD bits alone.
    ///
    /// Who asks with both validates by himself, and would find what is made here bogus (RFC 6147, section 3).
    pub(super) fn concerns(&self, question: &Question) -> bool {
        question.qtype == RecordType::AAAA || self.reverse(question).is_some()
    }

    /// The name that a question about the reverse name of a made address comes down to (RFC 6147, section 5.3.1).
    fn reverse(&self, question: &Question) -> Option<DomainName> {
        if question.qtype != RecordType::PTR {
            return None;
        }
        let [a, b, c, d] = self.prefix.extract(address_of(&question.name)?)?.octets();
        format!("{d}.{c}.{b}.{a}.in-addr.arpa").parse().ok()
    }

    fn ignores_aaaa(&self, name: &Name) -> bool {
        self.ignore_aaaa.iter().any(|domain| name.is_at_or_below(domain))
    }

    /// Whether the name has addresses that a client can use as they are; those inside `::ffff:0:0/96` no client can
    /// (RFC 6147, section 5.1.4).
    fn has_addresses(&self, message: &Message) -> bool {
        let usable = |data: &Rdata| {
            <[u8; 16]>::try_from(&**data).is_ok_and(|octets| Ipv6Addr::from(octets).to_ipv4_mapped().is_none())
        };
        message.answer.iter().any(|set| set.rtype == RecordType::AAAA && set.rdata.iter().any(usable))
    }

    /// Puts IPv6 addresses in the place of IPv4 ones.
    fn translate(&self, message: &mut Message, longest: u32) {
        for set in message.answer.iter_mut().filter(|set| set.rtype == RecordType::A) {
            let inside = set.rdata.iter().filter_map(|data| <[u8; 4]>::try_from(&**data).ok());
            set.rdata = inside.map(|octets| Rdata::from(self.prefix.embed(Ipv4Addr::from(octets)).octets())).collect();
            set.rtype = RecordType::AAAA;
            set.ttl = set.ttl.min(longest);
            set.signatures.clear();
        }
        // What is proven about the A records proves nothing here.
        message.authority.clear();
    }
}

impl Engine {
    /// As [`proven`](Engine::proven), with addresses made for those who need them.
    pub(super) async fn translated(
        &self,
        dns64: &Settings,
        question: &Question,
        work: &Work,
        source: Source,
    ) -> Result<(Message, Option<Validation>), Failure> {
        if question.dnssec_ok && question.checking_disabled {
            return self.proven(question, work, source).await;
        }
        if let Some(name) = dns64.reverse(question) {
            let inside = Question { name, ..question.clone() };
            let (mut message, mut validation) = self.proven(&inside, work, source).await?;
            for set in message.answer.iter_mut().filter(|set| set.name == inside.name) {
                set.name = question.name.clone();
                set.signatures.clear();
            }
            // It is proven of another name.
            validation.iter_mut().for_each(weaken);
            return Ok((message, validation));
        }
        let own = match dns64.ignores_aaaa(&question.name) {
            true => None,
            false => Some(self.proven(question, work, source).await),
        };
        // Nothing is made for a name that has addresses, does not exist, or is not what it claims to be
        // (RFC 6147, sections 5.1.1, 5.1.2 and 5.5); servers that fail for AAAA may still know A (section 5.1.3).
        let settled = |(message, validation): &(Message, Option<Validation>)| {
            is_bogus(validation) || message.rcode != Rcode::NOERROR || dns64.has_addresses(message)
        };
        if let Some(Ok(own)) = own.as_ref().filter(|own| own.as_ref().is_ok_and(settled)) {
            return Ok(own.clone());
        }
        let ipv4 = Question { qtype: RecordType::A, ..question.clone() };
        let (mut message, mut validation) = match self.proven(&ipv4, work, source).await {
            Ok(found) => found,
            Err(failure) => return own.unwrap_or(Err(failure)),
        };
        if is_bogus(&validation) {
            return Ok((message, validation));
        }
        if !message.answer.iter().any(|set| set.rtype == RecordType::A) {
            return own.unwrap_or(Ok((message, validation)));
        }
        let own = own.and_then(Result::ok);
        let longest = own.as_ref().and_then(|(message, _)| scrub::negative_ttl(&message.authority)).unwrap_or(LONGEST);
        dns64.translate(&mut message, longest);
        if let Some(validation) = &mut validation {
            validation.authority.clear();
            // The addresses are as good as both of their reasons.
            if own.is_none_or(|(_, own)| own.is_none_or(|own| own.security != Security::Secure)) {
                weaken(validation);
            }
        }
        Ok((message, validation))
    }
}

fn is_bogus(validation: &Option<Validation>) -> bool {
    validation.as_ref().is_some_and(|validation| validation.security == Security::Bogus)
}

/// What was made here is no better than insecure.
fn weaken(validation: &mut Validation) {
    if validation.security == Security::Secure {
        validation.security = Security::Insecure;
    }
}

/// The address whose reverse name this is (RFC 3596, section 2.5).
fn address_of(name: &Name) -> Option<Ipv6Addr> {
    let mut labels: Vec<&[u8]> = name.labels().collect();
    if labels.len() != 34 || labels[32..] != [b"ip6", &b"arpa"[..]] {
        return None;
    }
    labels.truncate(32);
    let mut address = 0;
    for label in labels.into_iter().rev() {
        let [digit] = label else { return None };
        address = address << 4 | u128::from(char::from(*digit).to_digit(16)?);
    }
    Some(address.into())
}

#[cfg(test)]
mod tests {
    use super::super::message::RrSet;
    use super::*;

    fn settings() -> Settings {
        Settings { prefix: Nat64Prefix::WELL_KNOWN, ignore_aaaa: vec!["half.kz".parse().unwrap()] }
    }

    fn set(rtype: RecordType, rdata: &[&[u8]]) -> RrSet {
        let rdata = rdata.iter().map(|data| Rdata::from(*data)).collect();
        let signatures = std::iter::once(Rdata::from([0; 20])).collect();
        RrSet { name: "www.kz".parse().unwrap(), rtype, ttl: 900, rdata, signatures }
    }

    #[test]
    fn ipv4_addresses_become_ipv6_addresses_without_signatures() {
        let mut message = Message { answer: vec![set(RecordType::A, &[&[192, 0, 2, 33]])], ..Message::default() };
        settings().translate(&mut message, LONGEST);
        let made = &message.answer[0];
        assert_eq!((made.rtype, made.ttl, made.signatures.len()), (RecordType::AAAA, 600, 0));
        assert_eq!(*made.rdata[0], "64:ff9b::c000:221".parse::<Ipv6Addr>().unwrap().octets());
    }

    #[test]
    fn mapped_addresses_do_not_count_as_ipv6() {
        let mapped = "::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets();
        let own = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
        for (rdata, expected) in [(vec![&mapped[..]], false), (vec![&mapped[..], &own[..]], true)] {
            let message = Message { answer: vec![set(RecordType::AAAA, &rdata)], ..Message::default() };
            assert_eq!(settings().has_addresses(&message), expected);
        }
    }

    #[test]
    fn the_reverse_name_of_a_made_address_leads_to_that_of_the_one_inside() {
        let digits = "1.2.2.0.0.0.0.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.9.f.f.4.6.0.0.ip6.arpa";
        for (name, expected) in [
            (digits.to_owned(), Some("33.2.0.192.in-addr.arpa")),
            (digits.replacen("0.0.ip6", "0.2.ip6", 1), None),
            (digits.replacen("1.", "", 1), None),
            (digits.replacen('1', "x", 1), None),
            ("www.kz".to_owned(), None),
        ] {
            let question = Question::new(&name.parse::<DomainName>().unwrap(), RecordType::PTR);
            let found = settings().reverse(&question).map(|name| name.to_string());
            assert_eq!(found.as_deref().map(|name| name.trim_end_matches('.')), expected, "{name}");
        }
    }

    #[test]
    fn own_addresses_are_passed_over_where_the_operator_says_so() {
        let name = |text: &str| text.parse::<DomainName>().unwrap();
        assert!(settings().ignores_aaaa(&name("www.half.kz")) && !settings().ignores_aaaa(&name("www.kz")));
    }
}
