//! Who may ask, and how much at once.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use arc_swap::{ArcSwap, Guard};
use ipnet::IpNet;
use parking_lot::Mutex;

/// Who may ask. The longest prefix that covers a client decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Clients that are served.
    pub allow: Vec<IpNet>,
    /// Clients that are told REFUSED, as everybody is whom no prefix covers.
    pub refuse: Vec<IpNet>,
    /// Clients that get no reply at all.
    pub ignore: Vec<IpNet>,
    /// Queries that may wait for the world at once.
    pub max_waiting: usize,
    /// The same from one client.
    pub max_waiting_per_client: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"];
        Self {
            allow: loopback.map(|prefix| prefix.parse().expect("a prefix")).to_vec(),
            refuse: Vec::new(),
            ignore: Vec::new(),
            max_waiting: 16_384,
            max_waiting_per_client: 4096,
        }
    }
}

/// How a client is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Its queries are answered.
    Allow,
    /// It is told REFUSED.
    Refuse,
    /// It hears nothing.
    Ignore,
}

/// The door: shared by all fronts.
#[derive(Debug)]
pub struct Admission {
    access: ArcSwap<AccessTable>,
    waiting: Meter,
    connections: Meter,
}

impl Admission {
    /// A door as `settings` describe it.
    pub fn new(settings: &Settings, max_connections: usize, max_connections_per_client: usize) -> Self {
        Self {
            access: ArcSwap::from_pointee(AccessTable::new(settings)),
            waiting: Meter::new(settings.max_waiting, settings.max_waiting_per_client),
            connections: Meter::new(max_connections, max_connections_per_client),
        }
    }

    /// How a client is met. A few nanoseconds, however many prefixes there are.
    pub fn access(&self, client: IpAddr) -> Access {
        self.view().find(client)
    }

    /// How clients are met at the moment, for queries that came together.
    pub(super) fn view(&self) -> AccessView {
        AccessView(self.access.load())
    }

    /// Meets clients in another way from now on; what waits already may wait on.
    pub(super) fn replace(&self, settings: &Settings) {
        self.access.store(Arc::new(AccessTable::new(settings)));
        self.waiting.set_limits(settings.max_waiting, settings.max_waiting_per_client);
    }

    /// A place for a query that must wait for the world; `None` when it cannot have one.
    pub(super) fn wait(self: &Arc<Self>, client: IpAddr) -> Option<Ticket> {
        Ticket::take(self, client, |admission| &admission.waiting)
    }

    /// A place for a connection; `None` when it cannot have one.
    pub(super) fn connect(self: &Arc<Self>, client: IpAddr) -> Option<Ticket> {
        Ticket::take(self, client, |admission| &admission.connections)
    }
}

/// How clients were met when it was taken.
#[derive(Debug)]
pub(super) struct AccessView(Guard<Arc<AccessTable>>);

impl AccessView {
    pub(super) fn find(&self, client: IpAddr) -> Access {
        self.0.find(client)
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    client: IpAddr,
    meter: fn(&Admission) -> &Meter,
}

impl Ticket {
    fn take(admission: &Arc<Admission>, client: IpAddr, meter: fn(&Admission) -> &Meter) -> Option<Self> {
        let client = household(client);
        meter(admission).enter(client).then(|| Self { admission: admission.clone(), client, meter })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        (self.meter)(&self.admission).leave(self.client);
    }
}

/// The smallest block that an ordinary client has to itself: one IPv4 address, or an IPv6 /64.
fn household(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// Counts what is inside, in all and for each client.
#[derive(Debug)]
struct Meter {
    limit: AtomicUsize,
    limit_per_client: AtomicUsize,
    inside: AtomicUsize,
    /// Only clients that have something inside, so that it is bounded by `limit`.
    clients: Mutex<HashMap<IpAddr, usize, RandomState>>,
}

impl Meter {
    fn new(limit: usize, limit_per_client: usize) -> Self {
        Self {
            limit: limit.into(),
            limit_per_client: limit_per_client.into(),
            inside: 0.into(),
            clients: Mutex::default(),
        }
    }

    fn set_limits(&self, limit: usize, limit_per_client: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.limit_per_client.store(limit_per_client, Ordering::Relaxed);
    }

    fn enter(&self, client: IpAddr) -> bool {
        if self.inside.fetch_add(1, Ordering::Relaxed) < self.limit.load(Ordering::Relaxed) {
            let mut clients = self.clients.lock();
            let count = clients.entry(client).or_default();
            if *count < self.limit_per_client.load(Ordering::Relaxed) {
                *count += 1;
                return true;
            }
            if *count == 0 {
                clients.remove(&client);
            }
        }
        self.inside.fetch_sub(1, Ordering::Relaxed);
        false
    }

    fn leave(&self, client: IpAddr) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
        let mut clients = self.clients.lock();
        if let Some(count) = clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&client);
            }
        }
    }
}

/// All prefixes, laid out flat: each address belongs to the last segment that begins at or before it.
#[derive(Debug)]
struct AccessTable {
    ipv4: Vec<(u32, Access)>,
    ipv6: Vec<(u128, Access)>,
}

impl AccessTable {
    fn new(settings: &Settings) -> Self {
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        for (prefixes, access) in
            [(&settings.allow, Access::Allow), (&settings.refuse, Access::Refuse), (&settings.ignore, Access::Ignore)]
        {
            for prefix in prefixes {
                match prefix {
                    IpNet::V4(net) => ipv4.push(Prefix {
                        first: net.network().to_bits().into(),
                        last: net.broadcast().to_bits().into(),
                        access,
                    }),
                    IpNet::V6(net) => {
                        ipv6.push(Prefix { first: net.network().to_bits(), last: net.broadcast().to_bits(), access })
                    }
                }
            }
        }
        let ipv4 = flatten(ipv4).into_iter().filter_map(|(start, access)| Some((start.try_into().ok()?, access)));
        Self { ipv4: ipv4.collect(), ipv6: flatten(ipv6) }
    }

    fn find(&self, client: IpAddr) -> Access {
        match client.to_canonical() {
            IpAddr::V4(address) => segment(&self.ipv4, address.to_bits()),
            IpAddr::V6(address) => segment(&self.ipv6, address.to_bits()),
        }
    }
}

fn segment<T: Ord + Copy>(segments: &[(T, Access)], address: T) -> Access {
    let after = segments.partition_point(|(start, _)| *start <= address);
    after.checked_sub(1).map_or(Access::Refuse, |at| segments[at].1)
}

#[derive(Debug, Clone, Copy)]
struct Prefix {
    first: u128,
    last: u128,
    access: Access,
}

/// Prefixes contain one another or are apart, so that the ones around a place form a stack.
fn flatten(mut prefixes: Vec<Prefix>) -> Vec<(u128, Access)> {
    // Of equal prefixes the stricter comes last and wins.
    prefixes.sort_by_key(|prefix| (prefix.first, std::cmp::Reverse(prefix.last), prefix.access));
    let mut segments = Vec::new();
    let mut around: Vec<Prefix> = Vec::new();
    let close = |around: &mut Vec<Prefix>, segments: &mut Vec<(u128, Access)>| {
        let ended = around.pop();
        if let Some(next) = ended.and_then(|ended| ended.last.checked_add(1)) {
            segments.push((next, around.last().map_or(Access::Refuse, |outer| outer.access)));
        }
    };
    for prefix in prefixes {
        while around.last().is_some_and(|outer| outer.last < prefix.first) {
            close(&mut around, &mut segments);
        }
        segments.push((prefix.first, prefix.access));
        around.push(prefix);
    }
    while !around.is_empty() {
        close(&mut around, &mut segments);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_longest_prefix_decides() {
        let table = AccessTable::new(&Settings {
            allow: nets(&["10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32", "255.0.0.0/8"]),
            refuse: nets(&["10.1.0.0/16"]),
            ignore: nets(&["10.1.2.0/24", "2001:db8:bad::/48"]),
            ..Settings::default()
        });
        for (client, access) in [
            ("10.0.0.0", Access::Allow),
            ("10.1.0.1", Access::Refuse),
            ("10.1.2.2", Access::Ignore),
            ("10.1.2.3", Access::Allow),
            ("10.1.2.4", Access::Ignore),
            ("10.1.3.0", Access::Refuse),
            ("10.2.0.0", Access::Allow),
            ("11.0.0.0", Access::Refuse),
            ("9.255.255.255", Access::Refuse),
            ("255.255.255.255", Access::Allow),
            ("::ffff:10.2.0.0", Access::Allow),
            ("2001:db8::1", Access::Allow),
            ("2001:db8:bad::1", Access::Ignore),
            ("2001:db9::1", Access::Refuse),
        ] {
            assert_eq!(table.find(client.parse().unwrap()), access, "{client}");
        }
    }

    #[test]
    fn a_client_has_its_share_and_no_more() {
        let settings = Settings { max_waiting: 3, max_waiting_per_client: 2, ..Settings::default() };
        let admission = Arc::new(Admission::new(&settings, 1, 1));
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|client| client.parse().unwrap());

        let first = admission.wait(one).unwrap();
        let second = admission.wait(one).unwrap();
        assert!(admission.wait(one).is_none(), "its share is taken");
        let third = admission.wait(two).unwrap();
        assert!(admission.wait(two).is_none(), "all is taken");
        drop((first, second));
        assert!(admission.wait(one).is_some());
        drop(third);
        assert_eq!(admission.waiting.inside.load(Ordering::Relaxed), 0);
        assert!(admission.waiting.clients.lock().is_empty());
    }

    #[test]
    fn an_ipv6_subnet_counts_as_one_client() {
        let admission = Arc::new(Admission::new(&Settings::default(), 10, 1));
        let _place = admission.connect("2001:db8::1".parse().unwrap()).unwrap();
        assert!(admission.connect("2001:db8::2".parse().unwrap()).is_none());
        assert!(admission.connect("2001:db8:0:1::1".parse().unwrap()).is_some());
    }

    proptest! {
        #[test]
        fn the_flat_table_agrees_with_a_search_through_all_prefixes(
            prefixes in proptest::collection::vec((any::<u32>(), 0..=32u8, 0..3usize), 0..12),
            clients in proptest::collection::vec(any::<u32>(), 0..20),
        ) {
            let mut lists: [Vec<IpNet>; 3] = Default::default();
            for (bits, len, list) in &prefixes {
                // Few high bits, so that prefixes meet.
                let net = ipnet::Ipv4Net::new((bits & 0xc003_ffff).into(), *len).unwrap().trunc();
                lists[*list].push(net.into());
            }
            let [allow, refuse, ignore] = lists.clone();
            let table = AccessTable::new(&Settings { allow, refuse, ignore, ..Settings::default() });
            let borders = prefixes.iter().flat_map(|(bits, ..)| [bits & 0xc003_ffff, (bits & 0xc003_ffff).wrapping_sub(1)]);
            for client in clients.iter().map(|bits| bits & 0xc003_ffff).chain(borders) {
                let client = IpAddr::from(std::net::Ipv4Addr::from_bits(client));
                let expected = [Access::Allow, Access::Refuse, Access::Ignore]
                    .into_iter()
                    .zip(&lists)
                    .flat_map(|(access, nets)| nets.iter().map(move |net| (net, access)))
                    .filter(|(net, _)| net.contains(&client))
                    .max_by_key(|(net, access)| (net.prefix_len(), *access))
                    .map_or(Access::Refuse, |(_, access)| access);
                prop_assert_eq!(table.find(client), expected, "{}", client);
            }
        }
    }
}
