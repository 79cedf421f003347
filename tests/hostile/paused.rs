//! Plays a scenario in process: the pipeline over the resolver over [`Wires`], hours of waiting in no time.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use qalqan::clock::{Clock, Now};
use qalqan::pipeline::{self, Pipeline};
use qalqan::policy::Policy;
use qalqan::query::{Client, Transport};
use qalqan::recursor::hints::RootHints;
use qalqan::recursor::{self, Recursor};
use tokio::time::{Instant, sleep, timeout};

use crate::judge::Outcome;
use crate::message::{Answer, ask};
use crate::network::Wires;
use crate::scenarios::{Ask, Scenario};
use crate::world::ROOTS;

/// When a client has certainly gone.
const WAIT: Duration = Duration::from_secs(30);
/// The day on which everything happens.
const TODAY: u64 = 1_760_000_000;

/// Asks a fresh resolver the scenario's questions, one after another.
pub fn play(scenario: &Scenario) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime needs only memory").block_on(async {
        let start = Instant::now();
        let clock = Clock::from_fn(move || {
            let elapsed = start.elapsed();
            Now { elapsed, wall: TODAY + elapsed.as_secs() }
        });
        let settings = recursor::Settings {
            validate: false,
            root_hints: RootHints { servers: ROOTS.map(|(name, at)| (name.parse().expect("a name"), vec![at])).into() },
            allow_upstream: ["198.18.0.0/15", "2001:2::/48"].map(|prefix| prefix.parse().expect("a prefix")).into(),
            ..recursor::Settings::default()
        };
        let recursor = Recursor::new(settings, Arc::new(Wires::new(scenario.world.clone())), clock.clone());
        let pipeline = Pipeline::new(pipeline::Settings::default(), Arc::new(recursor), Policy::unfiltered(), clock);
        let client = Client { address: (Ipv4Addr::LOCALHOST, 4242).into(), transport: Transport::Tcp };

        let mut outcome = Outcome::new(scenario);
        let answer = async |id: usize, question: &Ask| {
            sleep(question.after).await;
            let query = ask(id as u16, &question.name, question.qtype);
            let asked = Instant::now();
            let reply = timeout(WAIT, pipeline.handle(&query, client)).await.ok().flatten();
            (reply.as_deref().and_then(Answer::read), asked.elapsed())
        };
        let questions = scenario.questions.iter().enumerate().map(|(id, question)| answer(id, question));
        let answers = match scenario.at_once {
            true => futures_util::future::join_all(questions).await,
            false => futures_util::stream::iter(questions).then(|answer| answer).collect().await,
        };
        for (question, (answer, took)) in scenario.questions.iter().zip(answers) {
            outcome.judge(scenario, question, answer.as_ref(), took);
            // The client is told that nobody could be reached (RFC 8914, section 4.23).
            if scenario.name == "leaf/all/silent" && !answer.is_some_and(|answer| answer.explains_unreachable()) {
                outcome.notes.push(format!("{} {}: not explained", question.name, question.qtype));
            }
        }
        // What goes on when the client has its answer counts as well.
        sleep(WAIT).await;
        outcome.finish(scenario.world.received())
    })
}
