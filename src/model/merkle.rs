//! The Merkle tree over the leaf hashes of the log (RFC 6962 §2.1): roots, inclusion proofs, consistency proofs.
//!
//! A tree of n leaves is a row of perfect subtrees, the largest first: its right edge. A leaf is added with at most
//! log2(n) hashes and nothing else is read, so a root is made from the last one and what came since. Proofs are made in
//! one pass over the leaves that keeps only the subtrees they name.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// SHA-256 of a leaf, a node or a root.
pub type Hash = [u8; 32];

/// SHA-256(0x01 || left || right), the node hash of RFC 6962 §2.1.
#[must_use]
pub fn node_hash(left: Hash, right: Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The right edge of a tree: the roots of its perfect subtrees, the largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    roots: Vec<Hash>,
}

impl Edge {
    /// The edge of a tree with that many leaves; none when the number of subtrees is another.
    #[must_use]
    pub fn new(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (u64::from(size.count_ones()) == roots.len() as u64).then_some(Self { size, roots })
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, the largest first.
    #[must_use]
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Adds a leaf. `completed` is told every perfect subtree that it completes: its level (0: the leaf itself), its
    /// place on that level, and its root.
    fn grow(&mut self, leaf: Hash, mut completed: impl FnMut(u32, u64, Hash)) {
        let mut root = leaf;
        completed(0, self.size, root);
        for level in 1..=self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                root = node_hash(left, root);
                completed(level, self.size >> level, root);
            }
        }
        self.roots.push(root);
        self.size += 1;
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.grow(leaf, |_, _, _| {});
    }

    /// The root of the tree; of the empty one SHA-256 of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut smallest_first = self.roots.iter().rev().copied();
        let last = smallest_first.next().unwrap_or_else(|| Sha256::digest([]).into());
        smallest_first.fold(last, |right, left| node_hash(left, right))
    }
}

/// Some of the leaves: `first` up to but without `end`. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u64,
    end: u64,
}

impl Span {
    /// The largest power of two below the number of leaves, from its start: where RFC 6962 divides a tree.
    fn middle(self) -> u64 {
        let count = self.end - self.first;
        self.first + (1 << (count - 1).ilog2())
    }

    fn halves(self) -> (Self, Self) {
        let middle = self.middle();
        (Self { first: self.first, end: middle }, Self { first: middle, end: self.end })
    }
}

/// Makes proofs: first say which, then give it every leaf in order, then take them.
#[derive(Debug, Clone)]
pub struct Prover {
    size: u64,
    wanted: BTreeMap<(u32, u64), Option<Hash>>,
    edge: Edge,
}

impl Prover {
    /// For a tree of that many leaves, those events and, when it is one, the tree of `since` leaves before it.
    #[must_use]
    pub fn new(size: u64, leaves: impl IntoIterator<Item = u64>, since: Option<u64>) -> Self {
        let mut prover = Self { size, wanted: BTreeMap::new(), edge: Edge::default() };
        let spans = leaves.into_iter().flat_map(|leaf| inclusion_spans(leaf, size)).collect::<Vec<_>>();
        for span in spans.into_iter().chain(since.map_or_else(Vec::new, |since| consistency_spans(since, size))) {
            prover.want(span);
        }
        prover
    }

    fn want(&mut self, span: Span) {
        let count = span.end - span.first;
        if count.is_power_of_two() {
            let level = count.trailing_zeros();
            self.wanted.insert((level, span.first >> level), None);
        } else {
            let (left, right) = span.halves();
            self.want(left);
            self.want(right);
        }
    }

    /// The next leaf. Leaves beyond the tree are passed over.
    pub fn push(&mut self, leaf: Hash) {
        if self.edge.size < self.size {
            let wanted = &mut self.wanted;
            self.edge.grow(leaf, |level, place, root| {
                if let Some(slot) = wanted.get_mut(&(level, place)) {
                    *slot = Some(root);
                }
            });
        }
    }

    fn hash(&self, span: Span) -> Option<Hash> {
        let count = span.end - span.first;
        if count.is_power_of_two() {
            let level = count.trailing_zeros();
            return self.wanted.get(&(level, span.first >> level)).copied().flatten();
        }
        let (left, right) = span.halves();
        Some(node_hash(self.hash(left)?, self.hash(right)?))
    }

    /// The root of the tree, once every leaf was given.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        (self.edge.size == self.size).then(|| self.edge.root())
    }

    /// The inclusion proof of a leaf that was asked for (RFC 6962 §2.1.1), from its sibling upwards.
    #[must_use]
    pub fn inclusion(&self, leaf: u64) -> Option<Vec<Hash>> {
        (leaf < self.size).then(|| inclusion_spans(leaf, self.size))?.into_iter().map(|span| self.hash(span)).collect()
    }

    /// The consistency proof from the tree of `since` leaves that was asked for (RFC 6962 §2.1.2).
    #[must_use]
    pub fn consistency(&self, since: u64) -> Option<Vec<Hash>> {
        consistency_spans(since, self.size).into_iter().map(|span| self.hash(span)).collect()
    }
}

/// PATH(m, D[n]) of RFC 6962 §2.1.1.
fn inclusion_spans(leaf: u64, size: u64) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut at = Span { first: 0, end: size };
    while leaf < size && at.end - at.first > 1 {
        let (left, right) = at.halves();
        let (inside, beside) = if leaf < left.end { (left, right) } else { (right, left) };
        spans.push(beside);
        at = inside;
    }
    spans.reverse();
    spans
}

/// PROOF(m, D[n]) of RFC 6962 §2.1.2.
fn consistency_spans(since: u64, size: u64) -> Vec<Span> {
    if since == 0 || since >= size {
        return Vec::new();
    }
    let mut spans = Vec::new();
    let mut at = Span { first: 0, end: size };
    while at.end != since {
        let (left, right) = at.halves();
        let (inside, beside) = if since <= left.end { (left, right) } else { (right, left) };
        spans.push(beside);
        at = inside;
    }
    // The old tree itself is known to whoever asks.
    if at.first != 0 {
        spans.push(at);
    }
    spans.reverse();
    spans
}

/// Whether the proof shows that this leaf is the one with that number (from 0) in a tree of that size and root (RFC 9162
/// §2.1.3.2).
#[must_use]
pub fn includes(root: Hash, size: u64, number: u64, leaf: Hash, proof: &[Hash]) -> bool {
    if number >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (number, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(*sibling, hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(hash, *sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == root
}

/// Whether the proof shows that the tree of `size` leaves begins with the tree of `old_size` (RFC 9162 §2.1.4.2). A tree
/// is consistent with itself, and with nothing of size 0 that could be signed.
#[must_use]
pub fn extends(old_root: Hash, old_size: u64, root: Hash, size: u64, proof: &[Hash]) -> bool {
    if old_size == 0 || old_size >= size {
        return old_size == size && old_size > 0 && old_root == root && proof.is_empty();
    }
    let mut path = proof.iter().copied();
    let start = if old_size.is_power_of_two() { Some(old_root) } else { path.next() };
    let Some(start) = start else { return false };
    let (mut at, mut last) = (old_size - 1, size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut old, mut new) = (start, start);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old = node_hash(sibling, old);
            new = node_hash(sibling, new);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new = node_hash(new, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old == old_root && new == root
}
