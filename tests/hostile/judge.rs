//! Whether an answer is right, and the table that says so.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use crate::message::Answer;
use crate::scenarios::{Ask, Expect, Scenario};
use crate::world::{POISON, of_type};

/// A client asks for an answer within this; a little is for the way.
pub const PATIENCE: Duration = Duration::from_millis(4200);

/// What came of one scenario.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    pub name: String,
    pub asked: u32,
    pub right: u32,
    /// Queries that the world's servers received.
    pub queries: u32,
    pub limit: u32,
    pub slowest: Duration,
    /// A forged record reached a client.
    pub poisoned: bool,
    /// What was wrong, question by question.
    pub notes: Vec<String>,
}

impl Outcome {
    pub fn new(scenario: &Scenario) -> Self {
        Self { name: scenario.name.clone(), limit: scenario.limit, ..Self::default() }
    }

    /// Judges one answer; `None` when there was none.
    pub fn judge(&mut self, scenario: &Scenario, ask: &Ask, answer: Option<&Answer>, took: Duration) {
        self.asked += 1;
        self.slowest = self.slowest.max(took);
        let fault = match answer {
            None => Some("no answer".to_owned()),
            Some(_) if took > PATIENCE => Some("late".to_owned()),
            Some(answer) => {
                self.poisoned |= answer.answer.iter().any(|record| {
                    let IpAddr::V4(poison) = POISON else { return false };
                    record.rdata == poison.octets()
                });
                fault(scenario, ask, answer)
            }
        };
        match fault {
            None => self.right += 1,
            Some(fault) => {
                self.notes.push(format!("{} {}: {fault} after {:.1} s", ask.name, ask.qtype, took.as_secs_f32()));
            }
        }
    }

    /// Notes the number of queries.
    pub fn finish(mut self, queries: u32) -> Self {
        self.queries = queries;
        if queries > self.limit {
            self.notes.push(format!("{queries} queries upstream, {} allowed", self.limit));
        }
        if self.poisoned {
            self.notes.push("POISONED".to_owned());
        }
        self
    }

    /// Whether everything was as it should be.
    pub fn passed(&self) -> bool {
        self.notes.is_empty()
    }
}

/// What is wrong with an answer.
fn fault(scenario: &Scenario, ask: &Ask, answer: &Answer) -> Option<String> {
    let truth = scenario.world.truth(&ask.name, ask.qtype);
    let mut rdata: Vec<Vec<u8>> = of_type(&answer.answer, ask.qtype).collect();
    rdata.sort();
    rdata.dedup();
    let true_answer = answer.rcode == truth.rcode && rdata == truth.rdata;
    let failure = answer.rcode == 2;
    // YXDOMAIN is for aliases that grow too long (RFC 6672, section 2.2).
    let nothing = rdata.is_empty() && matches!(answer.rcode, 0 | 3 | 6);
    let right = match ask.expect {
        Expect::Truth => true_answer,
        Expect::Failure => failure,
        Expect::TruthOrFailure => true_answer || failure,
        Expect::Nothing => nothing,
        Expect::Harmless => true_answer || failure || nothing,
        Expect::Denied => answer.rcode == 3 && rdata.is_empty(),
    };
    (!right).then(|| {
        format!(
            "rcode {} with {} records, expected {:?} ({}, {})",
            answer.rcode,
            rdata.len(),
            ask.expect,
            truth.rcode,
            truth.rdata.len()
        )
    })
}

/// How many queries went upstream for each question.
pub fn queries_per_question(outcomes: &[Outcome]) -> f64 {
    let sum = |field: fn(&Outcome) -> u32| f64::from(outcomes.iter().map(field).sum::<u32>());
    sum(|outcome| outcome.queries) / sum(|outcome| outcome.asked).max(1.0)
}

/// The table of all that is not a pass, and the totals.
pub fn table(title: &str, outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes.iter().filter(|outcome| !outcome.passed()) {
        let _ = writeln!(
            text,
            "{:<52} {:>2}/{:<2} {:>4} queries",
            outcome.name, outcome.right, outcome.asked, outcome.queries
        );
        for note in &outcome.notes {
            let _ = writeln!(text, "    {note}");
        }
    }
    let sum = |field: fn(&Outcome) -> u32| outcomes.iter().map(field).sum::<u32>();
    let (asked, right) = (sum(|o| o.asked), sum(|o| o.right));
    let _ = writeln!(
        text,
        "{title}: {} of {} scenarios pass; {right} of {asked} answers right ({:.1} %), {:.2} queries a question, \
         slowest {:.1} s, {} poisoned, {} over their limit",
        outcomes.iter().filter(|outcome| outcome.passed()).count(),
        outcomes.len(),
        100.0 * f64::from(right) / f64::from(asked.max(1)),
        queries_per_question(outcomes),
        outcomes.iter().map(|outcome| outcome.slowest).max().unwrap_or_default().as_secs_f32(),
        outcomes.iter().filter(|outcome| outcome.poisoned).count(),
        outcomes.iter().filter(|outcome| outcome.queries > outcome.limit).count(),
    );
    text
}
