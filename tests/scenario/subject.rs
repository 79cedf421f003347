//! The resolver that scenarios are played against: the pipeline and everything below it, as production has them.

use std::sync::Arc;

use qalqan::clock::{Clock, Now};
use qalqan::compile::{self, Freshness, GuardMode};
use qalqan::front::admission::{Access, Admission};
use qalqan::name::DomainName;
use qalqan::pipeline::Pipeline;
use qalqan::policy::{self, OverrideSet, Policy};
use qalqan::query::Client;
use qalqan::recursor::Recursor;
use qalqan::recursor::dnssec::Rollover;
use qalqan::recursor::dnssec::rollover::TrustPoint;
use qalqan::recursor::network::Network;
use qalqan::snapshot::Snapshot;

use super::config::Setup;
use super::legacy::LegacyAlgorithms;

/// The resolver that is tested.
pub(crate) struct Subject {
    pipeline: Arc<Pipeline>,
    admission: Admission,
    recursor: Recursor,
}

impl Subject {
    /// A resolver as `setup` says, on a scripted network and clock. Must be called on the runtime that it lives on.
    pub(crate) fn new(setup: &Setup, network: Arc<dyn Network>, clock: Clock) -> Result<Self, String> {
        let policy = policy(setup, clock.now())?;
        let points = setup.managed_anchors.iter().map(|text| TrustPoint::parse(text));
        let points = points.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let (settings, rollover) = (setup.recursor.clone(), Rollover::from_points(points));
        let recursor = Recursor::with_rollover(settings, network, clock.clone(), Arc::new(LegacyAlgorithms), rollover);
        let keeper = recursor.clone();
        tokio::spawn(async move { keeper.keep_anchors().await });
        let pipeline = Pipeline::new(setup.pipeline.clone(), Arc::new(recursor.clone()), policy, clock);
        Ok(Self { pipeline, admission: Admission::new(&setup.admission, 1, 1), recursor })
    }

    /// Gives the query to the resolver as a front does; `None` when it does not reply.
    pub(crate) async fn ask(&self, query: &[u8], client: Client) -> Option<Vec<u8>> {
        match self.admission.access(client.ip()) {
            Access::Allow => self.pipeline.handle(query, client).await,
            Access::Refuse => {
                let mut reply = Vec::new();
                self.pipeline.prohibit(query, client, &mut reply);
                (!reply.is_empty()).then_some(reply)
            }
            Access::Ignore => None,
        }
    }

    /// Forgets what the cache has of the name in a question.
    pub(crate) fn flush(&self, question: &str) -> Result<(), String> {
        let name = question.split_whitespace().next().unwrap_or_default();
        let name: DomainName = name.parse().map_err(|error| format!("{name:?}: {error}"))?;
        self.pipeline.flush(&name, false);
        Ok(())
    }

    /// The seconds until trust anchors are next looked after (RFC 5011, section 2.3).
    pub(crate) fn next_probe(&self, now: Now) -> Option<u64> {
        Some(self.recursor.rollover().next_probe()?.saturating_sub(now.wall))
    }

    /// Compares the state of a zone's trust anchors with a state file as Unbound writes it.
    ///
    /// What asking in vain leaves behind is not compared: Unbound does not write it down. When the next asking is due,
    /// scenarios look at by `${timeout}`.
    pub(crate) fn check_anchors(&self, zone: &str, lines: &[String]) -> Result<(), String> {
        let text = lines.join("\n");
        let expected = TrustPoint::parse(&text);
        let zone = match &expected {
            Ok(expected) => expected.zone.clone(),
            Err(_) => zone.parse().map_err(|error| format!("{zone:?}: {error}"))?,
        };
        let points = self.recursor.rollover().points();
        let point = points.iter().find(|point| point.zone == zone).ok_or("the zone has no trust anchor")?;
        let summary = |point: &TrustPoint| {
            let mut keys: Vec<_> = point
                .keys
                .iter()
                .map(|key| {
                    format!("{} {:?} seen {} since {}", key.key_tag(), key.state, key.sightings, key.last_change)
                })
                .collect();
            keys.extend(point.ds.iter().map(|ds| format!("DS {ds:02x?}")));
            keys.sort();
            keys.push(format!("well {}, revoked: {}", point.last_success, point.revoked));
            keys.join("; ")
        };
        let expected = match expected {
            Ok(expected) => summary(&expected),
            // A file that lists no key is that of a zone whose keys are all revoked.
            Err(_) if text.contains("REVOKED") && point.revoked => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let found = summary(point);
        if expected == found { Ok(()) } else { Err(format!("expected {expected}; found {found}")) }
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
