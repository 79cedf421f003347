//! The resolver that scenarios are played against: the pipeline and everything below it, as production has them.

use std::sync::Arc;

use qalqan::clock::{Clock, Now};
use qalqan::compile::{self, Freshness, GuardMode};
use qalqan::name::DomainName;
use qalqan::pipeline::Pipeline;
use qalqan::policy::{self, OverrideSet, Policy};
use qalqan::query::Client;
use qalqan::recursor::Recursor;
use qalqan::recursor::network::Network;
use qalqan::snapshot::Snapshot;

use super::config::Setup;
use super::legacy::LegacyAlgorithms;

/// The resolver that is tested.
pub(crate) struct Subject {
    pipeline: Arc<Pipeline>,
}

impl Subject {
    /// A resolver as `setup` says, on a scripted network and clock.
    pub(crate) fn new(setup: &mut Setup, network: Arc<dyn Network>, clock: Clock) -> Result<Self, String> {
        let policy = policy(setup, clock.now())?;
        let recursor =
            Recursor::with_algorithms(setup.recursor.clone(), network, clock.clone(), Arc::new(LegacyAlgorithms));
        let pipeline = Pipeline::new(setup.pipeline.clone(), Arc::new(recursor), policy, clock);
        Ok(Self { pipeline })
    }

    /// Gives the query to the resolver; `None` when it does not reply.
    pub(crate) async fn ask(&self, query: &[u8], client: Client) -> Option<Vec<u8>> {
        self.pipeline.handle(query, client).await
    }

    /// Forgets what the cache has of the name in a question.
    pub(crate) fn flush(&self, question: &str) -> Result<(), String> {
        let name = question.split_whitespace().next().unwrap_or_default();
        let name: DomainName = name.parse().map_err(|error| format!("{name:?}: {error}"))?;
        self.pipeline.flush(&name, false);
        Ok(())
    }

    /// The seconds until trust anchors are next looked after (RFC 5011, section 2.3).
    pub(crate) fn next_probe(&self, _now: Now) -> Option<u64> {
        None
    }

    /// Compares the state of the trust anchors with a state file as Unbound writes it.
    pub(crate) fn check_anchors(&self, _zone: &str, _lines: &[String]) -> Result<(), String> {
        Err("trust anchors do not renew themselves".to_owned())
    }
}

/// The lists of the scenario, compiled as production compiles them.
fn policy(setup: &Setup, now: Now) -> Result<Policy, String> {
    if setup.lists.is_empty() {
        return Ok(Policy::unfiltered());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let settings = compile::Settings { lists: setup.lists.clone(), ..compile::Settings::default() };
    let compiled =
        compile::compile(&settings, None, folder.path(), Freshness::Cached, GuardMode::Waive, now, &mut |_| ())
            .map_err(|error| error.to_string())?;
    let snapshot = Snapshot::open(compiled.path()).map_err(|error| error.to_string())?;
    Ok(Policy::new(policy::Settings::default(), Some(Arc::new(snapshot)), OverrideSet::default()))
}
