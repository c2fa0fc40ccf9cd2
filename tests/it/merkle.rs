//! The Merkle tree against the definition of RFC 6962, and the forms of keys and checkpoints against known values.

#![expect(clippy::unwrap_used, reason = "what tests call fails like a test")]

use dunningd::model::{
    Checkpoint, CheckpointKey, Edge, Hash, Prover, VerifierKey, extends, includes, leaf_hash, node_hash,
};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

/// MTH(D[n]) as RFC 6962 §2.1 writes it down.
fn defined(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
            node_hash(defined(left), defined(right))
        }
    }
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|n| leaf_hash(n.to_string().as_bytes())).collect()
}

fn root(leaves: &[Hash]) -> Hash {
    let mut edge = Edge::default();
    for leaf in leaves {
        edge.push(*leaf);
    }
    assert_eq!(Edge::new(edge.size(), edge.roots().to_vec()).unwrap(), edge);
    edge.root()
}

#[test]
fn roots_are_those_of_the_reference_implementation_of_certificate_transparency() {
    let inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let leaves: Vec<Hash> = inputs.iter().map(|input| leaf_hash(&hex::decode(input).unwrap())).collect();
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    for (size, expected) in roots.iter().enumerate() {
        assert_eq!(hex::encode(root(&leaves[..size])), *expected, "{size}");
    }
}

#[test]
fn proofs_have_the_nodes_that_rfc_6962_section_2_1_3_shows() {
    let all = leaves(7);
    // The RFC calls the leaves a to f and j, and the nodes above them g to i and then k and l.
    let node = |left: usize, right: usize| node_hash(all[left], all[right]);
    let (nodes, last) = ([node(0, 1), node(2, 3), node(4, 5)], all[6]);
    let upper = [node_hash(nodes[0], nodes[1]), node_hash(nodes[2], last)];
    let prove = |since| {
        let mut prover = Prover::new(7, [0, 3, 4, 6], since);
        for leaf in &all {
            prover.push(*leaf);
        }
        prover
    };
    let prover = prove(None);
    assert_eq!(prover.inclusion(0).unwrap(), [all[1], nodes[1], upper[1]]);
    assert_eq!(prover.inclusion(3).unwrap(), [all[2], nodes[0], upper[1]]);
    assert_eq!(prover.inclusion(4).unwrap(), [all[5], last, upper[0]]);
    assert_eq!(prover.inclusion(6).unwrap(), [nodes[2], upper[0]]);
    assert_eq!(prover.inclusion(7), None);
    assert_eq!(prove(Some(3)).consistency(3).unwrap(), [all[2], all[3], nodes[0], upper[1]]);
    assert_eq!(prove(Some(4)).consistency(4).unwrap(), [upper[1]]);
    assert_eq!(prove(Some(6)).consistency(6).unwrap(), [nodes[2], last, upper[0]]);
}

proptest! {
    #[test]
    fn the_edge_gives_the_root_of_the_definition(size in 0_usize..200) {
        let leaves = leaves(size);
        prop_assert_eq!(root(&leaves), defined(&leaves));
    }

    #[test]
    fn every_leaf_is_proved_and_no_other_leaf_place_or_tree_is(size in 1_usize..130, at in 0_usize..130, wrong in 0_usize..130) {
        let leaves = leaves(size);
        let (at, wrong) = (at % size, wrong % size);
        let mut prover = Prover::new(size as u64, [at as u64], None);
        for leaf in &leaves {
            prover.push(*leaf);
        }
        let root = prover.root().unwrap();
        let mut proof = prover.inclusion(at as u64).unwrap();
        let holds = |leaf: usize, at: usize, size: usize, proof: &[Hash]| includes(root, size as u64, at as u64, leaves[leaf], proof);
        prop_assert!(holds(at, at, size, &proof));
        prop_assert_eq!(holds(wrong, at, size, &proof), wrong == at);
        prop_assert_eq!(holds(at, wrong, size, &proof), wrong == at);
        prop_assert!(!holds(at, size, size, &proof));
        prop_assert!(!includes([7; 32], size as u64, at as u64, leaves[at], &proof));
        if let Some(first) = proof.first_mut() {
            first[0] ^= 1;
            prop_assert!(!holds(at, at, size, &proof));
            proof[0][0] ^= 1;
        }
        proof.push([0; 32]);
        prop_assert!(!holds(at, at, size, &proof));
    }

    #[test]
    fn a_tree_extends_every_tree_that_it_grew_from_and_no_other(size in 1_usize..130, since in 1_usize..130) {
        let leaves = leaves(size);
        let since = 1 + since % size;
        let mut prover = Prover::new(size as u64, [], Some(since as u64));
        for leaf in &leaves {
            prover.push(*leaf);
        }
        let (old, new) = (defined(&leaves[..since]), prover.root().unwrap());
        let mut proof = prover.consistency(since as u64).unwrap();
        let holds = |old: Hash, new: Hash, proof: &[Hash]| extends(old, since as u64, new, size as u64, proof);
        prop_assert!(holds(old, new, &proof));
        prop_assert!(!holds([7; 32], new, &proof));
        prop_assert!(!holds(old, [7; 32], &proof));
        prop_assert!(!extends(old, size as u64 + 1, new, size as u64, &proof));
        proof.push([0; 32]);
        prop_assert!(!holds(old, new, &proof));
    }
}

/// The example keys of Go's golang.org/x/mod/sumdb/note.
const SECRET: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

#[test]
fn keys_have_the_text_forms_of_the_go_implementation() {
    let key = CheckpointKey::parse(SECRET).unwrap();
    assert_eq!(key.verifier().to_string(), PUBLIC);
    assert_eq!(key.secret_text(), SECRET);
    assert_eq!(VerifierKey::parse(PUBLIC).unwrap(), key.verifier());
    for wrong in ["", "PRIVATE+KEY+a+b", &SECRET.replace("c74f20a3", "c74f20a4"), &SECRET.replace("Peter", "Paul")] {
        let told = CheckpointKey::parse(wrong).unwrap_err().to_string();
        assert!(!told.contains("AYEKFALV"), "{told}");
    }
    assert!(VerifierKey::parse(&PUBLIC.replace("c74f", "c74e")).is_err());
    assert!(CheckpointKey::new("two words", [1; 32]).is_err() && CheckpointKey::new("a+b", [1; 32]).is_err());
}

#[test]
fn a_checkpoint_is_a_signed_note_and_holds_under_its_key_alone() {
    let key = CheckpointKey::parse(SECRET).unwrap();
    let note = key.sign(20_852_163, [9; 32]);
    let lines: Vec<&str> = note.split('\n').collect();
    assert_eq!(lines[..4], ["PeterNeumann", "20852163", "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=", ""]);
    assert!(lines[4].starts_with("\u{2014} PeterNeumann x08go") && lines[5..] == [""], "{note}");
    let checkpoint = Checkpoint::parse(&note).unwrap();
    assert_eq!((checkpoint.size, checkpoint.root), (20_852_163, [9; 32]));
    assert!(checkpoint.signed_by(&key.verifier()));
    let other = CheckpointKey::new("PeterNeumann", [3; 32]).unwrap();
    assert!(!checkpoint.signed_by(&other.verifier()));
    // A witness may add its line; what nobody knows is passed over.
    let witnessed = format!("{note}\u{2014} witness.example AAAAAAAA\n");
    assert!(Checkpoint::parse(&witnessed).unwrap().signed_by(&key.verifier()));
    for (old, new) in [("20852163", "20852164"), ("CQkJ", "CQkK"), ("x08go", "x08gp")] {
        let altered = note.replacen(old, new, 1);
        assert!(!Checkpoint::parse(&altered).is_ok_and(|read| read.signed_by(&key.verifier())), "{old}");
    }
    for wrong in ["", "a\n1\n", &note.replace("20852163", "020852163"), &note.replace("\n\n", "\n"), note.trim_end()] {
        assert!(Checkpoint::parse(wrong).is_err(), "{wrong}");
    }
}
