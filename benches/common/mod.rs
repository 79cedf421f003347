//! What the benches share: lists and questions from a seed, and a world that answers everything.
#![allow(dead_code, unreachable_pub, reason = "each bench uses its part")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use qalqan::clock::{Clock, Now};
use qalqan::name::{DomainName, MAX_KEY_LEN, MAX_NAME_LEN, Name};
use qalqan::pipeline::{Arrival, Pipeline, Settings, Step, View};
use qalqan::policy::{self, OverrideSet, Policy, Room};
use qalqan::query::{Client, Question, Rcode, RecordType, Transport};
use qalqan::recursor::message::{self, RrSet};
use qalqan::recursor::{BoxFuture, Resolution, Security, Upstream};
use qalqan::rule::{Action, ListId, Scope, TypeFilter};
use qalqan::snapshot::{CompiledRule, Inventory, ListEntry, Snapshot, Writer, Written};
use qalqan::wire::Header;
use smallvec::SmallVec;

/// Numbers that are the same everywhere (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A name of the shape that public lists have; the `index` makes it the only one.
pub fn name(random: &mut Random, index: usize) -> String {
    const WORDS: [&str; 24] = [
        "track", "ads", "cdn", "click", "metrics", "promo", "shop", "login", "secure", "static", "media", "news",
        "game", "bet", "pixel", "img", "api", "cloud", "mail", "web", "best", "top", "free", "my",
    ];
    const ENDINGS: [&str; 12] =
        ["com", "com", "com", "net", "org", "ru", "kz", "info", "xyz", "top", "co.uk", "online"];
    let mut word = || WORDS[random.below(WORDS.len())];
    let (first, second) = (word(), word());
    let host = if random.below(3) == 0 { format!("{}.", WORDS[random.below(WORDS.len())]) } else { String::new() };
    format!("{host}{first}-{second}{index:x}.{}", ENDINGS[random.below(ENDINGS.len())])
}

/// `count` names that are listed.
pub fn listed(count: usize) -> Vec<String> {
    let mut random = Random(1);
    (0..count).map(|index| name(&mut random, index)).collect()
}

/// `count` names that are not.
pub fn unlisted(count: usize) -> Vec<String> {
    let mut random = Random(2);
    (0..count).map(|index| format!("www.{}", name(&mut random, index + (1 << 30)))).collect()
}

/// A policy that sinkholes `names` and what is below them.
pub fn policy(names: &[String]) -> Policy {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("snapshot");
    let mut names: Vec<DomainName> = names.iter().map(|name| name.parse().expect("a name")).collect();
    names.sort();
    names.dedup();
    write(&path, names.iter());
    let snapshot = Snapshot::open(&path).expect("what was just written");
    Policy::new(policy::Settings::default(), Some(Arc::new(snapshot)), OverrideSet::default())
}

/// Writes a snapshot that sinkholes `names`, which are in order, and what is below them.
pub fn write<'n>(path: &Path, names: impl Iterator<Item = &'n DomainName>) -> Written {
    let inventory = Inventory { lists: vec![ListEntry::new("bench")] };
    let mut writer = Writer::create(path, &inventory).expect("a new file");
    let rule = writer.rule(&CompiledRule {
        list: ListId(0),
        scope: Scope::Subdomains,
        action: Action::Sinkhole,
        important: false,
        shadow: false,
        types: TypeFilter::All,
        except: Vec::new(),
        dossier: None,
    });
    for name in names {
        writer.insert(name.reversed_key(&mut [0; MAX_KEY_LEN]), &[rule]).expect("keys in order, and room");
    }
    writer.finish().expect("room for the rest")
}

/// 192.0.2.1 for every name, good for a day.
pub struct World;

impl Upstream for World {
    fn resolve<'a>(&'a self, question: &'a Question, _: Now) -> BoxFuture<'a, Resolution> {
        Box::pin(async move { address(question) })
    }
}

pub fn address(question: &Question) -> Resolution {
    let set = RrSet {
        name: question.name.clone(),
        rtype: RecordType::A,
        ttl: 86_400,
        rdata: [Box::from([192, 0, 2, 1])].into_iter().collect(),
        signatures: Default::default(),
    };
    let asked: (&Name, RecordType) = (&question.name, question.qtype);
    Resolution {
        rcode: Rcode::NOERROR,
        message: message::write_answer(asked, Rcode::NOERROR, [&set].into_iter(), [].iter(), false),
        security: Security::Insecure,
        ttl: 86_400,
        errors: Vec::new(),
        particular: false,
        stripped: false,
    }
}

/// A pipeline in front of [`World`]. Must be called within a runtime.
pub fn pipeline(policy: Policy) -> Arc<Pipeline> {
    Pipeline::new(Settings::default(), Arc::new(World), policy, Clock::system())
}

pub const CLIENT: Client =
    Client { address: std::net::SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5353), transport: Transport::Udp };

/// Queries that a [`Worker`] takes together at most.
pub const MOST_TOGETHER: usize = 64;

/// Answers as a worker of the front does.
pub struct Worker<'p> {
    pipeline: &'p Pipeline,
    view: View,
    names: [[u8; MAX_NAME_LEN]; MOST_TOGETHER],
    room: Room,
    replies: [Vec<u8>; MOST_TOGETHER],
}

impl<'p> Worker<'p> {
    pub fn new(pipeline: &'p Pipeline) -> Self {
        let view = pipeline.view(pipeline.now());
        Self { pipeline, view, names: [[0; _]; _], room: Room::default(), replies: [const { Vec::new() }; _] }
    }

    /// Answers what needs no waiting, and says how many that were.
    pub fn answer_all<'q>(&mut self, messages: impl Iterator<Item = &'q [u8]>) -> usize {
        let Self { pipeline, view, names, room, replies } = self;
        let mut arrivals: SmallVec<[Arrival<'_>; MOST_TOGETHER]> = SmallVec::new();
        for (message, name) in messages.zip(names) {
            arrivals.push(Arrival::read(message, CLIENT, name));
        }
        pipeline.look_up_all(view, &mut arrivals, room);
        let steps = arrivals.iter().zip(replies).map(|(arrival, reply)| pipeline.respond(arrival, view, reply));
        steps.filter(|step| matches!(black_box(step), Step::Done(_))).count()
    }
}

/// A query for the address of `name`, with EDNS as most clients send it.
pub fn query(name: &str) -> Vec<u8> {
    let mut query = Header { id: 1, flags: Header::RD | Header::AD, counts: [1, 0, 0, 1] }.to_bytes().to_vec();
    query.extend(name.parse::<DomainName>().expect("a name").as_wire());
    query.extend([0, 1, 0, 1]);
    query.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    query
}

pub fn queries(names: &[String]) -> Vec<Vec<u8>> {
    names.iter().map(|name| query(name)).collect()
}
