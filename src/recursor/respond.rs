//! Answers a client's question: finds it, proves it, and writes it out.
//!
//! ```text
//! answer      names of our own, made addresses, or the world's answer; within the time limit
//! proven      found and validated; once more when it does not validate
//! remember    what validation has found out, for other questions
//! write       the message that the client's copy is made from
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::timeout;

use crate::name::Name;
use crate::query::{ExtendedError, Question, Rcode, RecordType};

use super::dnssec::sentinel::Sentinel;
use super::dnssec::{Attempt, Fetch, FetchFailed, Validation};
use super::iterate::Source;
use super::message::{self, Message, RrSet};
use super::work::{Failure, Path, Work};
use super::{BoxFuture, Engine, Resolution, Security, scrub, special};

/// For how many seconds it is remembered that an answer does not validate; the same bound limits floods.
const BOGUS_TTL: u32 = 30;

impl Engine {
    /// Finds, validates and writes the answer.
    pub(super) async fn answer(&self, question: &Question, work: &Work, source: Source) -> Resolution {
        let translator = self.settings.dns64.as_ref().map(|dns64| dns64.prefix);
        let dns64 = self.settings.dns64.as_ref().filter(|dns64| dns64.concerns(question));
        // A translator's prefix may lie among the addresses whose reverse names lead nowhere.
        let is_ours = self.settings.special_names && !self.is_routed(&question.name);
        if is_ours
            && (dns64.is_none() || question.qtype != RecordType::PTR)
            && let Some(local) = special::answer(question, translator)
        {
            return local;
        }
        // What is seldom needed is boxed, and what is large is pinned where it stands: every question would carry it.
        let found = std::pin::pin!(async {
            match dns64 {
                Some(dns64) => Box::pin(self.translated(dns64, question, work, source)).await,
                None => self.proven(question, work, source).await,
            }
        });
        let found = timeout(self.settings.patience, found).await.unwrap_or(Err(Failure::Late));
        let mut resolution = match found {
            Ok((message, validation)) => self.write(question, message, validation),
            Err(failure) => Resolution::empty(question, Rcode::SERVFAIL, Failure::TTL, vec![failure.extended_error()]),
        };
        resolution.errors.extend(work.remarks());
        Resolution { particular: dns64.is_some(), ..resolution }
    }

    /// The answer and what is proven of it; asks once more when it does not validate.
    pub(super) async fn proven(
        &self,
        question: &Question,
        work: &Work,
        source: Source,
    ) -> Result<(Message, Option<Validation>), Failure> {
        let path = Path::start(&question.name, question.qtype);
        let fetch = ChainFetch { engine: self, work };
        let validator = self.validator.as_ref().filter(|_| !question.checking_disabled);
        if let Some(validator) = validator.filter(|_| self.settings.aggressive_denial && source == Source::Any)
            && self.recall(work, &path, &question.name, question.qtype).is_none()
            && let Some(message) = self.denials.answer(&question.name, question.qtype, self.clock.now())
        {
            let validation = validator.validate(question, &message, &fetch, self.clock.now()).await;
            if validation.security == Security::Secure && validation.rcode == message.rcode {
                self.counters.validations[validation.security.index()].fetch_add(1, Relaxed);
                return Ok((message, Some(validation)));
            }
        }
        let mut message = self.find(work, &path, &question.name, question.qtype, source).await?;
        let Some(validator) = validator else { return Ok((message, None)) };
        let mut validation = validator.validate(question, &message, &fetch, self.clock.now()).await;
        if validation.security == Security::Bogus {
            // One server may be broken or behind; the next may not.
            if let Ok(again) = Box::pin(self.find_again(work, &path, question, &message)).await {
                let judged = validator.validate(question, &again, &fetch, self.clock.now()).await;
                if judged.security != Security::Bogus {
                    (message, validation) = (again, judged);
                }
            }
        }
        self.counters.validations[validation.security.index()].fetch_add(1, Relaxed);
        self.remember(question, &message, &validation);
        Ok((message, Some(validation)))
    }

    /// Asks anew for every part of a chain that did not validate.
    async fn find_again(
        &self,
        work: &Work,
        path: &Path<'_>,
        question: &Question,
        bogus: &Message,
    ) -> Result<Message, Failure> {
        for set in &bogus.answer {
            self.forget(work, &set.name, set.rtype);
        }
        if let Some(last) = bogus.answer.iter().rev().find(|set| set.rtype == RecordType::CNAME) {
            for target in last.targets() {
                self.forget(work, &target, question.qtype);
            }
        }
        self.find(work, path, &question.name, question.qtype, Source::Other).await
    }

    /// Notes in the store what validation has found out.
    fn remember(&self, question: &Question, message: &Message, validation: &Validation) {
        let now = self.clock.now();
        for proven in &validation.denials {
            // A proof holds for no longer than the denial that it came with (RFC 9077, section 3).
            let holds = scrub::negative_ttl(&message.authority).unwrap_or(proven.set.ttl);
            self.denials.put_for(&proven.zone, &proven.set, holds, now);
            let soa = |set: &&RrSet| set.rtype == RecordType::SOA && set.name == proven.zone;
            if let Some(soa) = message.authority.iter().find(soa).filter(|_| validation.security == Security::Secure) {
                self.denials.put(&proven.zone, soa, now);
            }
        }
        for (set, status) in message.answer.iter().zip(&validation.answer) {
            self.store.judge(&set.name, set.rtype, status.security, status.ttl, now);
        }
        let last = message.answer.iter().rev().find_map(|set| match set.rtype {
            RecordType::CNAME => set.targets().next(),
            _ => None,
        });
        let last = last.as_ref().map_or(&*question.name, |last| last);
        if !message.answer.iter().any(|set| set.rtype == question.qtype) {
            let ttl = validation.authority.iter().map(|status| status.ttl).min().unwrap_or_default();
            self.store.judge(last, question.qtype, validation.security, ttl, now);
            if validation.rcode != message.rcode {
                self.store.take(last, question.qtype, now);
            }
        }
    }

    /// Writes a found answer out.
    fn write(&self, question: &Question, mut message: Message, validation: Option<Validation>) -> Resolution {
        let mut security = Security::Indeterminate;
        let mut errors = Vec::new();
        if let Some(validation) = validation {
            security = validation.security;
            errors = validation.errors;
            if security == Security::Bogus {
                let mut bogus = Resolution::empty(question, Rcode::SERVFAIL, BOGUS_TTL, errors);
                bogus.security = security;
                return bogus;
            }
            let sentinel = Sentinel::of(&question.name, question.qtype).filter(|_| security == Security::Secure);
            if let (Some(sentinel), Some(validator)) = (sentinel, &self.validator)
                && sentinel.fails(&validator.anchors())
            {
                let text = "what the name claims of a key of the root is not so here (RFC 8509)";
                let untrue = ExtendedError::new(ExtendedError::BOGUS, text);
                return Resolution::empty(question, Rcode::SERVFAIL, Failure::TTL, vec![untrue]);
            }
            message.rcode = validation.rcode;
            for (set, status) in message.answer.iter_mut().zip(&validation.answer) {
                set.ttl = set.ttl.min(status.ttl);
            }
            for (set, status) in message.authority.iter_mut().zip(&validation.authority) {
                set.ttl = set.ttl.min(status.ttl);
            }
        }
        if self.settings.rebinding_protection && !self.is_private(&question.name) {
            message.answer.iter_mut().for_each(special::drop_private_addresses);
            message.answer.retain(|set| !set.rdata.is_empty());
        }
        let least = message.answer.iter().chain(&message.authority).map(|set| set.ttl).min();
        let ttl = if self.is_kept(&question.name) { least.unwrap_or(Failure::TTL) } else { 0 };
        let (answer, authority) = (message.answer.iter(), message.authority.iter());
        let octets = message::write_answer(
            (&question.name, question.qtype),
            message.rcode,
            answer,
            authority,
            question.dnssec_ok,
        );
        let is_proof = |set: &RrSet| message::is_proof(set.rtype) || !set.signatures.is_empty();
        let stripped = !question.dnssec_ok && message.sets().any(is_proof);
        Resolution { rcode: message.rcode, message: octets, security, ttl, errors, particular: false, stripped }
    }

    /// Whether the operator has said where questions for `name` go; then no special name is ours to answer.
    fn is_routed(&self, name: &Name) -> bool {
        self.routes.iter().any(|route| !route.zone.is_root() && name.is_at_or_below(&route.zone))
    }

    /// Whether answers about `name` may be kept.
    fn is_kept(&self, name: &Name) -> bool {
        self.routes.iter().find(|route| name.is_at_or_below(&route.zone)).is_none_or(|route| route.cache)
    }

    /// Whether `name` may have private addresses.
    fn is_private(&self, name: &Name) -> bool {
        self.settings.private_domains.iter().any(|domain| name.is_at_or_below(domain))
    }
}

/// Brings the validator its keys and delegations, within the allowance of the question.
pub(super) struct ChainFetch<'a> {
    pub(super) engine: &'a Engine,
    pub(super) work: &'a Work,
}

impl Fetch for ChainFetch<'_> {
    fn fetch<'a>(
        &'a self,
        name: &'a Name,
        rtype: RecordType,
        attempt: Attempt,
    ) -> BoxFuture<'a, Result<Arc<Message>, FetchFailed>> {
        Box::pin(async move {
            let source = match attempt {
                Attempt::First => Source::Any,
                Attempt::Again => Source::Other,
                Attempt::Fresh => Source::World,
            };
            let path = Path::inner(name, rtype);
            match self.engine.find(self.work, &path, name, rtype, source).await {
                Ok(message) if rtype == RecordType::DS && message.answer.iter().any(|set| set.rtype != rtype) => {
                    let referral = self.engine.refer(self.work, &path, name).await;
                    Ok(Arc::new(referral.unwrap_or(message)))
                }
                Ok(message) => Ok(Arc::new(message)),
                Err(failure) => Err(FetchFailed { errors: vec![failure.extended_error()] }),
            }
        })
    }
}
