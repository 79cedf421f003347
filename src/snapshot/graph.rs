//! The graph of a [part](super::part), step by step.
//!
//! The graph is an FST as [`fst::raw::Builder`] writes it (version 3); its nodes
//! are read here octet by octet. That is twice as fast as `fst`'s own reader,
//! which prepares more of a node than one step needs, and it is total: an
//! address that leads out of the file is the end of the walk, not of the
//! process. Every step takes one octet of the key, so each walk ends.
//!
//! A node is written back to front and addressed by its last octet:
//!
//! | state octet | in front of it, going down |
//! |---|---|
//! | `11iiiiii` | (input); leads to the node just before |
//! | `10iiiiii` | (input), sizes, address, output |
//! | `0fnnnnnn` | (count), sizes, (index of 256), inputs, addresses, outputs, final output |
//!
//! `i` is the place of the input in a table of common ones, `n` the number of
//! transitions, and 0 for either says that it has an octet of its own.

use prefetch_index::prefetch_index;

use super::layout::{LINE, u64_at};
use crate::rule::owner::MAX_OWNER_KEY_LEN;

/// Where the final node without an output is said to be; no octet stands for it.
const EMPTY_NODE: usize = 0;
/// A node with more transitions has an index over all 256 inputs.
const INDEX_THRESHOLD: usize = 32;
/// Octets behind the root: count, address, checksum.
const FOOTER_LEN: usize = 20;
/// The inputs that `fst` writes in six bits, by their number from 1.
const COMMON_INPUTS: [u8; 63] = *b"te/oasripcnw.hlm-du012g=:bf3y5&_4v9678k%?xCDASFIBEjPTzRNM+LOqHG";

/// For each input the state octet of a node that leads from it to the node just before.
const RUN_NODES: [u16; 256] = {
    let mut nodes = [NO_RUN_NODE; 256];
    let mut number = 0;
    while number < COMMON_INPUTS.len() {
        nodes[COMMON_INPUTS[number] as usize] = 0xc0 | (number as u16 + 1);
        number += 1;
    }
    nodes
};

// No run goes on past a zero, which ends a label.
const _: () = assert!(RUN_NODES[0] == NO_RUN_NODE);

/// What stands in [`RUN_NODES`] for inputs that are not common; no octet is equal to it.
const NO_RUN_NODE: u16 = 0x100;

/// A graph in a section of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Graph<'s> {
    octets: &'s [u8],
    root: usize,
}

/// A place in the graph.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    /// The address of a node.
    address: usize,
    /// The sum of the outputs on the way to it.
    output: u64,
}

impl State {
    /// Whether a key ends here and none goes on.
    #[inline(always)]
    pub(super) fn is_leaf(self) -> bool {
        self.address == EMPTY_NODE
    }

    /// Whether both are in about the same line of memory.
    #[inline(always)]
    pub(super) fn is_near(self, other: Self) -> bool {
        self.address / LINE == other.address / LINE
    }

    /// The value of the key that has led to this leaf.
    #[inline(always)]
    pub(super) fn leaf_value(self) -> u64 {
        self.output
    }
}

/// A node, as far as one step needs it.
#[derive(Debug, Clone, Copy)]
enum Node {
    /// No transition, final, output 0.
    Empty,
    /// One transition, not final.
    One { input: u8, output: u64, target: usize },
    /// Any number of transitions.
    Many(Many),
}

/// A node with any number of transitions.
#[derive(Debug, Clone, Copy)]
struct Many {
    is_final: bool,
    count: usize,
    /// The inputs of the first eight transitions, that of the first the highest octet; nothing when there is an index.
    first_inputs: u64,
    /// Behind the inputs; the index, when there is one, begins here.
    inputs_end: usize,
    address_len: usize,
    output_len: usize,
}

impl<'s> Graph<'s> {
    /// Whether `section` has the frame of a graph.
    pub(super) fn is_framed(section: &[u8]) -> bool {
        fst::raw::Fst::new(section).is_ok()
    }

    /// The graph in `section`.
    #[inline]
    pub(super) fn new(section: &'s [u8]) -> Option<Self> {
        let root = u64_at(section, section.len().checked_sub(FOOTER_LEN)? + 8)?;
        Some(Self { octets: section, root: usize::try_from(root).ok()? })
    }

    /// Where every walk begins.
    #[inline]
    pub(super) fn start(self) -> State {
        State { address: self.root, output: 0 }
    }

    /// Goes along `key` from `at` on, as long as each node leads to the one just before, and no key ends there.
    ///
    /// Stops at each end of a label, which whoever counts labels relies on.
    #[inline(always)]
    pub(super) fn run(self, state: &mut State, key: &[u8], at: &mut usize) {
        while let (Some(&node), Some(&octet)) = (self.octets.get(state.address), key.get(*at))
            && u16::from(node) == RUN_NODES[usize::from(octet)]
        {
            state.address = state.address.wrapping_sub(1);
            *at += 1;
        }
    }

    /// The value of the key that ends at `state`, when one does.
    pub(super) fn value(self, state: State) -> Option<u64> {
        Some(state.output.wrapping_add(self.final_output(state.address)?))
    }

    /// Has memory fetch the node at `state`, for whoever will go on from there.
    #[inline(always)]
    pub(super) fn fetch_ahead(self, state: State) {
        // A node ends there, and most of what is needed of it are sixteen octets.
        prefetch_index(self.octets, state.address);
        prefetch_index(self.octets, state.address.wrapping_sub(15));
    }

    /// Where `input` leads from `state`.
    #[inline(always)]
    pub(super) fn step(self, state: State, input: u8) -> Option<State> {
        let (address, output) = match self.node(state.address)? {
            Node::Empty => return None,
            Node::One { input: only, output, target } => (only == input).then_some((target, output))?,
            Node::Many(node) => {
                let index = self.find(node, input)?;
                (self.target(node, index)?, if node.output_len > 0 { self.output(node, index)? } else { 0 })
            }
        };
        Some(State { address, output: state.output.wrapping_add(output) })
    }

    /// Reads the node that ends at `address`.
    #[inline(always)]
    fn node(self, address: usize) -> Option<Node> {
        // In front of the first node stand sixteen octets of the graph's own header, so that this cannot lead out.
        let Some(end) = self.octets.get(..=address)?.last_chunk::<16>() else {
            return (address == EMPTY_NODE).then_some(Node::Empty);
        };
        let [.., third, second, state] = *end;
        let low = usize::from(state & 0x3f);
        if state & 0x80 != 0 {
            // One transition.
            let (input, sizes, before) = match low {
                0 => (second, third, address - 1),
                common => (COMMON_INPUTS[common - 1], second, address),
            };
            if state & 0x40 != 0 {
                return Some(Node::One { input, output: 0, target: before - 1 });
            }
            let (address_len, output_len) = split(sizes);
            let delta_at = (before - 1).wrapping_sub(address_len);
            let output_at = delta_at.wrapping_sub(output_len);
            let target = target(output_at, self.number(delta_at, address_len)?);
            return Some(Node::One { input, output: self.number(output_at, output_len)?, target });
        }
        let (count, sizes, inputs) = match (low, second) {
            // One transition has a node of the other kind, so the 1 is free to stand for 256.
            (0, 1) => (256, third, &end[5..13]),
            (0, count) => (usize::from(count), third, &end[5..13]),
            (count, sizes) => (count, sizes, &end[6..14]),
        };
        let (address_len, output_len) = split(sizes);
        let index_len = if count > INDEX_THRESHOLD { 256 } else { 0 };
        let sizes_at = if low == 0 { address - 2 } else { address - 1 };
        Some(Node::Many(Many {
            is_final: state & 0x40 != 0,
            count,
            first_inputs: u64_at(inputs, 0)?,
            inputs_end: sizes_at.wrapping_sub(index_len),
            address_len,
            output_len,
        }))
    }

    #[inline]
    fn final_output(self, address: usize) -> Option<u64> {
        match self.node(address)? {
            Node::Empty => Some(0),
            Node::One { .. } => None,
            Node::Many(node) if node.is_final => self.number(node.begin(), node.output_len),
            Node::Many(_) => None,
        }
    }

    /// Which transition of `node` is for `input`.
    #[inline(always)]
    fn find(self, node: Many, input: u8) -> Option<usize> {
        if node.count > INDEX_THRESHOLD {
            let index = usize::from(*self.octets.get(node.inputs_end.checked_add(usize::from(input))?)?);
            return (index < node.count).then_some(index);
        }
        // The inputs stand in descending order in front of `inputs_end`: in each
        // eight of them, read as one number, the first is the highest octet.
        const ONES: u64 = u64::MAX / 0xff;
        const LOW_BITS: u64 = ONES * 0x7f;
        let mut inputs = node.first_inputs;
        let mut before = 0;
        loop {
            let differing = inputs ^ (ONES * u64::from(input));
            // Sets the high bit of each octet that does not differ, and nothing else.
            let equal = !(((differing & LOW_BITS) + LOW_BITS) | differing | LOW_BITS);
            if equal != 0 {
                let index = before + equal.leading_zeros() as usize / 8;
                return (index < node.count).then_some(index);
            }
            before += 8;
            if before >= node.count {
                return None;
            }
            inputs = u64_at(self.octets, node.inputs_end.checked_sub(before + 8)?)?;
        }
    }

    /// Where transition `index` of `node` leads.
    #[inline(always)]
    fn target(self, node: Many, index: usize) -> Option<usize> {
        let addresses_end = node.inputs_end.wrapping_sub(node.count);
        let delta = self.number(addresses_end.wrapping_sub((index + 1) * node.address_len), node.address_len)?;
        Some(target(node.begin(), delta))
    }

    /// The output of transition `index` of `node`.
    #[inline(always)]
    fn output(self, node: Many, index: usize) -> Option<u64> {
        let outputs_end = node.inputs_end.wrapping_sub(node.count * (1 + node.address_len));
        self.number(outputs_end.wrapping_sub((index + 1) * node.output_len), node.output_len)
    }

    /// The little-endian number of `len` octets at `at`; of more than eight the first ones.
    #[inline(always)]
    fn number(self, at: usize, len: usize) -> Option<u64> {
        // Eight octets can always be read: behind every node stands the footer.
        const _: () = assert!(FOOTER_LEN >= 8);
        Some(u64_at(self.octets, at)? & MASKS[len & 0x0f])
    }

    /// All keys with their values, in order.
    pub(super) fn keys(self) -> Keys<'s> {
        Keys { graph: self, key: Vec::new(), stack: Vec::new(), begun: false }
    }
}

impl Many {
    /// Where the transitions' addresses count from.
    #[inline(always)]
    fn begin(self) -> usize {
        let transitions = self.inputs_end.wrapping_sub(self.count * (1 + self.address_len + self.output_len));
        if self.is_final { transitions.wrapping_sub(self.output_len) } else { transitions }
    }
}

/// How many octets addresses and outputs have in a node.
#[inline(always)]
fn split(sizes: u8) -> (usize, usize) {
    (usize::from(sizes >> 4), usize::from(sizes & 0x0f))
}

/// The bits of a number of so many octets.
const MASKS: [u64; 16] = {
    let mut masks = [u64::MAX; 16];
    let mut len = 0;
    while len < 8 {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

/// The address that `delta` octets before the beginning of a node stands for.
#[inline(always)]
fn target(begin: usize, delta: u64) -> usize {
    if delta == 0 { EMPTY_NODE } else { begin.wrapping_sub(delta as usize) }
}

/// The keys of a [`Graph`] in ascending order.
#[derive(Debug)]
pub(super) struct Keys<'s> {
    graph: Graph<'s>,
    /// The way to the node on top of the stack.
    key: Vec<u8>,
    stack: Vec<Branch>,
    begun: bool,
}

/// A node on the way to the key, with the transitions still to be followed.
#[derive(Debug)]
struct Branch {
    node: Node,
    next: usize,
    output: u64,
}

impl Keys<'_> {
    /// The key that stands here.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Goes on to the next key, and returns its value.
    pub(super) fn advance(&mut self) -> Option<u64> {
        if !self.begun {
            self.begun = true;
            if let Some(value) = self.enter(self.graph.root, 0) {
                return Some(value);
            }
        }
        loop {
            let branch = self.stack.last_mut()?;
            let step = match branch.node {
                Node::One { input, output, target } if branch.next == 0 => Some((input, output, target)),
                Node::Many(node) if branch.next < node.count => {
                    let input_at = node.inputs_end.wrapping_sub(branch.next + 1);
                    let input = self.graph.octets.get(input_at).copied();
                    let output = self.graph.output(node, branch.next);
                    let transition = output.zip(self.graph.target(node, branch.next));
                    input.zip(transition).map(|(input, (output, target))| (input, output, target))
                }
                _ => None,
            };
            branch.next += 1;
            let output = branch.output;
            match step {
                // A key is never longer than a name allows; a graph that says so is not followed.
                Some((input, more, target)) if self.key.len() < MAX_OWNER_KEY_LEN => {
                    self.key.push(input);
                    if let Some(value) = self.enter(target, output.wrapping_add(more)) {
                        return Some(value);
                    }
                }
                _ => {
                    self.stack.pop();
                    self.key.pop();
                }
            }
        }
    }

    /// Goes into the node at `address`; its value when it is final.
    fn enter(&mut self, address: usize, output: u64) -> Option<u64> {
        let node = self.graph.node(address).unwrap_or(Node::Empty);
        self.stack.push(Branch { node, next: 0, output });
        Some(output.wrapping_add(self.graph.final_output(address)?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn built(keys: &BTreeMap<Vec<u8>, u64>) -> Vec<u8> {
        let mut builder = fst::raw::Builder::memory();
        for (key, value) in keys {
            builder.insert(key, *value).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn all(graph: Graph<'_>, most: usize) -> BTreeMap<Vec<u8>, u64> {
        let mut keys = graph.keys();
        let mut all = BTreeMap::new();
        while let Some(value) = keys.advance() {
            all.insert(keys.key().to_vec(), value);
            if all.len() == most {
                break;
            }
        }
        all
    }

    fn get(graph: Graph<'_>, key: &[u8]) -> Option<u64> {
        let (mut end, mut at) = (graph.start(), 0);
        graph.run(&mut end, key, &mut at);
        while at < key.len() {
            end = graph.step(end, key[at])?;
            at += 1;
            graph.run(&mut end, key, &mut at);
        }
        let value = graph.value(end);
        if end.is_leaf() {
            assert_eq!(value, Some(end.leaf_value()));
        }
        value
    }

    #[test]
    fn common_inputs_are_those_of_the_writer() {
        // A key of one octet has a root with one transition, which holds the
        // input in its state octet when it is a common one.
        for octet in 0..=255u8 {
            let section = built(&[(vec![octet], 0)].into());
            let number = usize::from(section[Graph::new(&section).unwrap().root] & 0x3f);
            let expected = COMMON_INPUTS.iter().position(|&common| common == octet).map_or(0, |at| at + 1);
            assert_eq!(number, expected, "{octet}");
        }
    }

    #[test]
    fn a_node_may_have_all_inputs_there_are() {
        // With 64 and more it is not final, and its state octet is 0.
        for most in [62, 63, 255] {
            let keys: BTreeMap<_, _> =
                (0..=most).map(|octet| (vec![b'a', octet, b'Q', octet], u64::from(octet))).collect();
            let section = built(&keys);
            let graph = Graph::new(&section).unwrap();
            for octet in 0..=255 {
                let expected = (octet <= most).then_some(u64::from(octet));
                assert_eq!(get(graph, &[b'a', octet, b'Q', octet]), expected, "{octet} of {most}");
            }
        }
    }

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        // Few different octets make shared nodes, many make large ones.
        prop_oneof![
            proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'Q')], 0..6),
            proptest::collection::vec(any::<u8>(), 0..3),
        ]
    }

    proptest! {
        #[test]
        fn keys_are_those_that_were_written(
            keys in proptest::collection::btree_map(octets(), prop_oneof![0u64..3, any::<u64>()], 0..400)
        ) {
            let section = built(&keys);
            let graph = Graph::new(&section).unwrap();
            prop_assert_eq!(all(graph, usize::MAX), keys.clone());
        }

        #[test]
        fn a_walk_finds_what_the_other_reader_finds(
            keys in proptest::collection::btree_map(octets(), prop_oneof![0u64..3, any::<u64>()], 0..400),
            others in proptest::collection::vec(octets(), 0..20),
        ) {
            let section = built(&keys);
            let graph = Graph::new(&section).unwrap();
            let other = fst::raw::Fst::new(&section[..]).unwrap();
            for key in keys.keys().chain(&others) {
                prop_assert_eq!(get(graph, key), other.get(key).map(|output| output.value()), "{:?}", key);
            }
        }

        #[test]
        fn any_octets_can_be_walked(section in proptest::collection::vec(any::<u8>(), 0..200), root in 0usize..220,
                                    keys in proptest::collection::btree_map(octets(), any::<u64>(), 0..60),
                                    at in any::<proptest::sample::Index>(), octet: u8) {
            let key = b"aa\0Qa\0a";
            let graph = Graph { octets: &section, root };
            get(graph, key);
            all(graph, 100);

            let mut damaged = built(&keys);
            *at.get_mut(&mut damaged) = octet;
            if let Some(graph) = Graph::new(&damaged) {
                get(graph, key);
                all(graph, 100);
            }
        }
    }
}
