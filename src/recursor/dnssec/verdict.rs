//! Judges a whole message: the chain of aliases, what it ends in, and what it denies (RFC 4035, sections 5.3 to 5.5).

use std::sync::Arc;

use crate::name::{DomainName, Name};
use crate::query::{ExtendedError, Question, Rcode, RecordType};
use crate::recursor::Security;
use crate::recursor::message::{Message, RrSet};

use super::chain::{Chain, Trust, ZoneKeys};
use super::denial::{Denial, Proof};
use super::rdata;
use super::{ProvenDenial, SetStatus, Validation};

/// What was found out about one set, or one claim that something is not there.
struct Finding {
    security: Security,
    ttl: u32,
    wildcard: Option<DomainName>,
    /// The zone that has signed it.
    keys: Option<Arc<ZoneKeys>>,
    errors: Vec<ExtendedError>,
}

impl Finding {
    fn new(security: Security, ttl: u32, errors: Vec<ExtendedError>) -> Self {
        Self { security, ttl, wildcard: None, keys: None, errors }
    }

    fn status(&self) -> SetStatus {
        SetStatus { security: self.security, ttl: self.ttl, wildcard: self.wildcard.clone() }
    }
}

/// The message under judgement and what is known about it so far.
pub struct Judge<'a> {
    chain: Chain<'a>,
    message: &'a Message,
    validation: Validation,
    /// The worst of the parts that have been looked at.
    worst: Option<Security>,
}

impl<'a> Judge<'a> {
    /// Begins with a message about which nothing is known.
    pub fn new(chain: Chain<'a>, message: &'a Message) -> Self {
        let unknown = |set: &RrSet| SetStatus { security: Security::Indeterminate, ttl: set.ttl, wildcard: None };
        let validation = Validation {
            security: Security::Indeterminate,
            rcode: message.rcode,
            errors: Vec::new(),
            answer: message.answer.iter().map(unknown).collect(),
            authority: message.authority.iter().map(unknown).collect(),
            denials: Vec::new(),
        };
        Self { chain, message, validation, worst: None }
    }

    /// Judges the message as the answer to `question`.
    pub async fn judge(mut self, question: &Question) -> Validation {
        for index in 0..self.message.answer.len() {
            self.answer_set(index).await;
        }
        match end_of_chain(self.message, question) {
            // The response code is not signed; what was asked for is there, whatever it says.
            None if self.message.rcode == Rcode::NXDOMAIN => self.validation.rcode = Rcode::NOERROR,
            Some(name)
                if matches!(self.message.rcode, Rcode::NOERROR | Rcode::NXDOMAIN)
                    && self.worst != Some(Security::Bogus) =>
            {
                self.negative(&name, question.qtype).await;
            }
            _ => {}
        }
        self.validation.security = self.worst.unwrap_or(Security::Indeterminate);
        self.validation
    }

    /// Counts a part of the answer: the whole is as good as its worst part.
    fn count(&mut self, security: Security, errors: Vec<ExtendedError>) {
        let rank = |security| match security {
            Security::Secure => 0,
            Security::Insecure => 1,
            Security::Indeterminate => 2,
            Security::Bogus => 3,
        };
        if self.worst.is_none_or(|worst| rank(worst) < rank(security)) {
            self.worst = Some(security);
            self.validation.errors.clear();
        }
        if self.worst == Some(security) {
            for error in errors {
                if !self.validation.errors.contains(&error) {
                    self.validation.errors.push(error);
                }
            }
        }
    }

    async fn answer_set(&mut self, index: usize) {
        let message = self.message;
        let set = &message.answer[index];
        let made_by = synthesised_by(message, set);
        let mut finding = match made_by {
            Some(dname) => self.set(&message.answer[dname]).await,
            None => self.set(set).await,
        };
        finding.ttl = finding.ttl.min(set.ttl);
        if made_by.is_none()
            && let (Some(wildcard), Some(keys)) = (&finding.wildcard, finding.keys.clone())
        {
            // Somebody could hold back the records of the name itself (RFC 4035, section 5.3.4).
            let wildcard = wildcard.clone();
            let (proof, flaw) = self.prove(&keys, |denial, budget| denial.no_closer(&set.name, &wildcard, budget));
            let closer = || {
                ExtendedError::new(ExtendedError::BOGUS, format!("no proof that {wildcard} is closest to {}", set.name))
            };
            let (security, errors) = conclude((proof, Some(flaw.unwrap_or_else(closer))), &set.name);
            (finding.security, finding.errors) = (security, errors);
        }
        self.validation.answer[index] = finding.status();
        self.count(finding.security, finding.errors);
    }

    /// Judges one set by itself.
    async fn set(&mut self, set: &RrSet) -> Finding {
        // Signatures are not signed (RFC 4035, section 2.2); they can be passed on, not believed.
        if set.rtype == RecordType::RRSIG {
            return Finding::new(Security::Insecure, set.ttl, Vec::new());
        }
        let home = home(&set.name, set.rtype);
        let trust = match rdata::signer(set) {
            Some(signer) => self.chain.keys_of(&signer, home).await,
            None => self.chain.zone_of(home).await,
        };
        match trust {
            Trust::Secure(keys) => match self.chain.verify(set, &keys) {
                Ok(signed) => Finding {
                    security: Security::Secure,
                    ttl: signed.ttl,
                    wildcard: signed.wildcard,
                    keys: Some(keys),
                    errors: Vec::new(),
                },
                Err(flaw) => Finding::new(Security::Bogus, set.ttl, vec![flaw.explain(&set.name, set.rtype)]),
            },
            Trust::Insecure(errors) => Finding::new(Security::Insecure, set.ttl, errors),
            Trust::Bogus(errors) => Finding::new(Security::Bogus, set.ttl, errors),
            Trust::Indeterminate => Finding::new(Security::Indeterminate, set.ttl, Vec::new()),
        }
    }

    /// Judges that there is nothing at `name` of `qtype`.
    async fn negative(&mut self, name: &Name, qtype: RecordType) {
        let message = self.message;
        let home = home(name, qtype);

        // The SOA record says for how long the denial may be kept: a forged one could say forever.
        for (index, set) in message.authority.iter().enumerate() {
            if set.rtype == RecordType::SOA && home.is_at_or_below(&set.name) {
                let finding = self.set(set).await;
                self.validation.authority[index] = finding.status();
                self.count(finding.security, finding.errors);
            }
        }

        let denies = |set: &&RrSet| matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3);
        let signers = message.authority.iter().filter(denies).filter_map(rdata::signer);
        let closest = signers.filter(|zone| home.is_at_or_below(zone)).max_by_key(|zone| zone.label_count());
        let trust = match &closest {
            Some(zone) => self.chain.keys_of(zone, home).await,
            None => self.chain.zone_of(home).await,
        };
        let Trust::Secure(keys) = trust else { return self.count_trust(trust) };
        let proof = self.denied(name, qtype, &keys);
        let answered_below = message
            .authority
            .iter()
            .any(|set| set.rtype == RecordType::SOA && set.name.is_below(&keys.zone) && home.is_at_or_below(&set.name));
        if proof.0 == Proof::Missing && answered_below {
            // The denial is for a zone above the one that has answered, which may be insecure.
            match self.chain.zone_of(home).await {
                Trust::Secure(_) => {}
                other => return self.count_trust(other),
            }
        }
        let (security, errors) = conclude(proof, name);
        self.count(security, errors);
    }

    fn count_trust(&mut self, trust: Trust) {
        match trust {
            Trust::Secure(_) => self.count(Security::Secure, Vec::new()),
            Trust::Insecure(errors) => self.count(Security::Insecure, errors),
            Trust::Bogus(errors) => self.count(Security::Bogus, errors),
            Trust::Indeterminate => self.count(Security::Indeterminate, Vec::new()),
        }
    }

    /// What the zone of `keys` proves about `name` and `qtype`.
    fn denied(&mut self, name: &Name, qtype: RecordType, keys: &ZoneKeys) -> (Proof, Option<ExtendedError>) {
        if self.message.rcode != Rcode::NXDOMAIN {
            return self.prove(keys, |denial, budget| denial.no_data(name, qtype, budget));
        }
        let (proof, flaw) = self.prove(keys, |denial, budget| denial.name_error(name, budget));
        // Some servers say NXDOMAIN where they can prove only that the type is missing: believe the proof.
        if proof == Proof::Missing
            && let (Proof::Proven, _) = self.prove(keys, |denial, budget| denial.no_data(name, qtype, budget))
        {
            self.validation.rcode = Rcode::NOERROR;
            return (Proof::Proven, None);
        }
        (proof, flaw)
    }

    /// Proves something with the denial records of the zone of `keys` in the authority section, and notes those that
    /// are good; also says what is wrong with one that is not.
    fn prove(
        &mut self,
        keys: &ZoneKeys,
        proof: impl FnOnce(&mut Denial<'_>, &mut super::Budget) -> Proof,
    ) -> (Proof, Option<ExtendedError>) {
        let (sets, mut flaw) = self.chain.denials(&self.message.authority, keys);
        if !sets.is_empty() {
            // There is a denial, only not of what was asked for (RFC 8914, section 4.13, is for one that is not there).
            flaw.get_or_insert_with(|| {
                ExtendedError::new(ExtendedError::BOGUS, format!("the denial of {} proves something else", keys.zone))
            });
        }
        let mut denial = Denial::new(&keys.zone, sets.iter(), self.chain.settings.nsec3_iterations);
        let proof = proof(&mut denial, &mut self.chain.budget);
        for set in sets {
            let place =
                self.message.authority.iter().position(|other| (&other.name, other.rtype) == (&set.name, set.rtype));
            if let Some(place) = place {
                self.validation.authority[place] =
                    SetStatus { security: Security::Secure, ttl: set.ttl, wildcard: None };
            }
            let known = self.validation.denials.iter().any(|known| known.set == set);
            if !known {
                self.validation.denials.push(ProvenDenial { zone: keys.zone.clone(), set });
            }
        }
        (proof, flaw)
    }
}

fn conclude((proof, flaw): (Proof, Option<ExtendedError>), name: &Name) -> (Security, Vec<ExtendedError>) {
    match proof {
        Proof::Proven => (Security::Secure, Vec::new()),
        Proof::Insecure => (Security::Insecure, Vec::new()),
        Proof::TooMuchWork => {
            let text = format!("too many hashes to prove what {name} has not");
            (Security::Bogus, vec![ExtendedError::new(ExtendedError::BOGUS, text)])
        }
        Proof::Missing => {
            let missing =
                || ExtendedError::new(ExtendedError::NSEC_MISSING, format!("no proof of what {name} has not"));
            (Security::Bogus, vec![flaw.unwrap_or_else(missing)])
        }
    }
}

/// The name whose zone must have signed records of `rtype` at `name`: the parent's for DS.
fn home(name: &Name, rtype: RecordType) -> &Name {
    match rtype {
        RecordType::DS => name.parent().unwrap_or(name),
        _ => name,
    }
}

/// The DNAME in the answer that `set`, a CNAME without signatures, follows from (RFC 6672, section 5.3.1).
fn synthesised_by(message: &Message, set: &RrSet) -> Option<usize> {
    if set.rtype != RecordType::CNAME || !set.signatures.is_empty() {
        return None;
    }
    let target = target(set)?;
    message.answer.iter().position(|other| {
        other.rtype == RecordType::DNAME && redirect(other, &set.name).is_some_and(|name| name == target)
    })
}

/// The name that `name` becomes by the DNAME set above it.
fn redirect(dname: &RrSet, name: &Name) -> Option<DomainName> {
    if !name.is_below(&dname.name) {
        return None;
    }
    name.with_suffix_replaced(&dname.name, &target(dname)?).ok()
}

/// The name in the only record of a CNAME or DNAME set.
fn target(set: &RrSet) -> Option<DomainName> {
    DomainName::from_wire(set.rdata.first()?).ok()
}

/// Where the aliases of the answer lead to from the question, unless what was asked for stands there.
fn end_of_chain(message: &Message, question: &Question) -> Option<DomainName> {
    let mut name = question.name.clone();
    // Each step uses up one set; a longer way goes in a circle, and denies nothing.
    for _ in 0..=message.answer.len() {
        let mut here = message.answer.iter().filter(|set| set.name == name);
        if here.clone().any(|set| set.rtype == question.qtype || question.qtype == RecordType::ANY) {
            return None;
        }
        let next = match here.find(|set| set.rtype == RecordType::CNAME) {
            Some(cname) => target(cname),
            None => message
                .answer
                .iter()
                .filter(|set| set.rtype == RecordType::DNAME)
                .find_map(|dname| redirect(dname, &name)),
        };
        match next {
            Some(next) => name = next,
            None => return Some(name),
        }
    }
    None
}
