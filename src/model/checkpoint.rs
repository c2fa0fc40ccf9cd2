//! Signed checkpoints of the log, in the forms of C2SP `tlog-checkpoint` and `signed-note` with Ed25519.
//!
//! A checkpoint says: the log of this origin had so many events, and this is the root of its Merkle tree. Keys have the
//! text forms of Go's `golang.org/x/mod/sumdb/note`: `PRIVATE+KEY+<name>+<id>+<base64>` and `<name>+<id>+<base64>`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};

use super::ParseError;
use super::merkle::Hash;

/// The signature type of signed-note for Ed25519.
const ED25519: u8 = 1;
/// A note of ours has one; witnesses may add theirs.
const SIGNATURES_MAX: usize = 100;

/// The key that signs checkpoints, with its name: the origin of the log.
#[derive(Clone)]
pub struct CheckpointKey {
    name: String,
    key: ed25519_dalek::SigningKey,
}

impl std::fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl CheckpointKey {
    /// A key of 32 random bytes, with the name of the log: `example.com/dunning`.
    ///
    /// # Errors
    /// When the name is empty or holds white space or a plus.
    pub fn new(name: &str, seed: [u8; 32]) -> Result<Self, ParseError> {
        let name = key_name(name)?;
        Ok(Self { name, key: ed25519_dalek::SigningKey::from_bytes(&seed) })
    }

    /// Reads `PRIVATE+KEY+<name>+<id>+<base64>`. The error never repeats the text.
    ///
    /// # Errors
    /// When it has another form.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let wrong =
            || ParseError::new("what [log] signing_key_file names", "a signing key as `dunningd log keygen` writes it");
        let rest = text.trim().strip_prefix("PRIVATE+KEY+").ok_or_else(wrong)?;
        let (name, id, seed) = parts(rest).ok_or_else(wrong)?;
        let key = Self::new(name, seed)?;
        if hex::encode(key.verifier().id()) == id { Ok(key) } else { Err(wrong()) }
    }

    /// `PRIVATE+KEY+<name>+<id>+<base64>`: a secret.
    #[must_use]
    pub fn secret_text(&self) -> String {
        let key = [&[ED25519][..], self.key.as_bytes()].concat();
        format!("PRIVATE+KEY+{}+{}+{}", self.name, hex::encode(self.verifier().id()), BASE64_STANDARD.encode(key))
    }

    /// The key that checks what this one signs.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// The signed note of a checkpoint.
    #[must_use]
    pub fn sign(&self, size: u64, root: Hash) -> String {
        let text = format!("{}\n{size}\n{}\n", self.name, BASE64_STANDARD.encode(root));
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let line = BASE64_STANDARD.encode([&self.verifier().id()[..], &signature[..]].concat());
        format!("{text}\n\u{2014} {} {line}\n", self.name)
    }
}

/// The public key that checks the checkpoints of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    /// Reads `<name>+<id>+<base64>`.
    ///
    /// # Errors
    /// When it has another form or is no Ed25519 key.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new(text, "a public key such as example.com/log+1a2b3c4d+AZ…");
        let (name, id, bytes) = parts(text.trim()).ok_or_else(wrong)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| wrong())?;
        let key = Self { name: key_name(name)?, key };
        if hex::encode(key.id()) == id { Ok(key) } else { Err(wrong()) }
    }

    /// The origin of the log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of SHA-256(name || 0x0A || 0x01 || key), as signed-note recommends.
    fn id(&self) -> [u8; 4] {
        let digest = Sha256::new().chain_update(&self.name).chain_update([b'\n', ED25519]).chain_update(self.key);
        let [a, b, c, d, ..] = <[u8; 32]>::from(digest.finalize());
        [a, b, c, d]
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = [&[ED25519][..], self.key.as_bytes()].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), BASE64_STANDARD.encode(key))
    }
}

/// `<name>+<id>+<base64 of 0x01 and 32 bytes>`.
fn parts(text: &str) -> Option<(&str, &str, [u8; 32])> {
    let mut parts = text.splitn(3, '+');
    let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = BASE64_STANDARD.decode(key).ok()?;
    let (ED25519, key) = bytes.split_first().map(|(kind, key)| (*kind, key))? else { return None };
    Some((name, id, key.try_into().ok()?))
}

fn key_name(name: &str) -> Result<String, ParseError> {
    let bad = |c: char| c.is_whitespace() || c == '+' || c.is_control();
    if name.is_empty() || name.contains(bad) {
        return Err(ParseError::new(name, "the name of a log, without spaces and plus: example.com/dunning"));
    }
    Ok(name.to_owned())
}

/// A checkpoint as it was signed. That it parses says nothing about its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    /// The number of events; at least 1.
    pub size: u64,
    pub root: Hash,
    text: String,
    signatures: Vec<(String, Vec<u8>)>,
}

impl Checkpoint {
    /// Reads a signed note whose text is a checkpoint.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(note: &str) -> Result<Self, ParseError> {
        let start = note.lines().next().unwrap_or_default();
        Self::read(note).ok_or_else(|| ParseError::new(start, "a signed checkpoint (origin, size, root, signature)"))
    }

    fn read(note: &str) -> Option<Self> {
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return None;
        }
        let split = note.rfind("\n\n")?;
        let (text, lines) = (note.get(..=split)?, note.get(split + 2..)?.strip_suffix('\n')?);
        let body: Vec<&str> = text.strip_suffix('\n')?.split('\n').collect();
        let [origin, size, root, extensions @ ..] = body.as_slice() else { return None };
        if origin.is_empty() || extensions.iter().any(|line| line.is_empty()) {
            return None;
        }
        let count: u64 = size.parse().ok()?;
        let root = BASE64_STANDARD.decode(root).ok()?.try_into().ok()?;
        let signatures = lines.split('\n').map(signature_line).collect::<Option<Vec<_>>>()?;
        let fits = count.to_string() == *size && count > 0 && signatures.len() <= SIGNATURES_MAX;
        fits.then(|| Self { origin: (*origin).to_owned(), size: count, root, text: text.to_owned(), signatures })
    }

    /// Whether one of those keys signed it, and no signature that is said to be by one of them is wrong.
    #[must_use]
    pub fn signed_by_one_of(&self, keys: &[VerifierKey]) -> bool {
        let is_by = |key: &&VerifierKey| {
            let id = key.id();
            self.origin == key.name
                && self.signatures.iter().any(|(name, bytes)| *name == key.name && bytes.starts_with(&id))
        };
        let mut by = keys.iter().filter(is_by).peekable();
        by.peek().is_some() && by.all(|key| self.signed_by(key))
    }

    /// Whether that key signed it, as the log of its name. A signature by that key that does not hold spoils the note.
    #[must_use]
    pub fn signed_by(&self, key: &VerifierKey) -> bool {
        let id = key.id();
        let mut ours = self.signatures.iter().filter(|(name, bytes)| *name == key.name && bytes.starts_with(&id));
        let holds = |bytes: &[u8]| {
            let signature = bytes.get(4..).and_then(|bytes| ed25519_dalek::Signature::from_slice(bytes).ok());
            signature.is_some_and(|signature| key.key.verify_strict(self.text.as_bytes(), &signature).is_ok())
        };
        self.origin == key.name && ours.clone().next().is_some() && ours.all(|(_, bytes)| holds(bytes))
    }
}

fn signature_line(line: &str) -> Option<(String, Vec<u8>)> {
    let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = BASE64_STANDARD.decode(signature).ok()?;
    (bytes.len() > 4).then(|| (name.to_owned(), bytes))
}
