//! Exports and dossiers as files: read, and verified as a whole without a database.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::model::{Checkpoint, VerifierKey};

use super::proof::verify_proof;
use super::verify::{Contents, Problem, Verified, Vouched, read_checkpoints, verify_contents, verify_lines};

/// The lines of a file, one after the other.
type Lines = Box<dyn Iterator<Item = io::Result<String>>>;

/// What somebody was given: a folder, a zip file, or events.ndjson alone.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    /// The files of a zip file.
    packed: Option<BTreeMap<String, Vec<u8>>>,
}

impl Bundle {
    /// Opens it; a zip file is read whole.
    ///
    /// # Errors
    /// When it does not exist, or is a damaged zip file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let packed = if path.is_dir() { None } else { unpack(path)? };
        Ok(Self { path: path.to_owned(), packed })
    }

    /// Whether it is events.ndjson and nothing else.
    fn is_lines(&self) -> bool {
        self.packed.is_none() && !self.path.is_dir()
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        if let Some(files) = &self.packed {
            return Ok(files.get(name).cloned());
        }
        // Nothing outside the folder, whatever a line says.
        if Path::new(name).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(io::Error::other("the name of a file leads elsewhere"));
        }
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        let bytes = self.read(name).map_err(|error| Problem::general(format_args!("{name}: {error}")))?;
        bytes
            .map(|bytes| String::from_utf8(bytes).map_err(|_| Problem::general(format_args!("{name} is not a text"))))
            .transpose()
    }

    /// The names of all files, in order.
    fn names(&self) -> io::Result<BTreeSet<String>> {
        if let Some(files) = &self.packed {
            return Ok(files.keys().cloned().collect());
        }
        let mut names = BTreeSet::new();
        walk(&self.path, "", &mut names)?;
        Ok(names)
    }

    fn lines(&self) -> io::Result<Lines> {
        let path = if self.is_lines() { self.path.clone() } else { self.path.join("events.ndjson") };
        let named = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
        Ok(Box::new(BufReader::new(File::open(&path).map_err(named)?).lines()))
    }

    /// Whether it is a dossier rather than an export.
    fn is_dossier(&self) -> bool {
        !self.is_lines() && matches!(self.read("proof.json"), Ok(Some(_)))
    }

    fn checkpoints(&self) -> Result<Vec<(String, String)>, Problem> {
        let names = self.names().map_err(Problem::general)?;
        let notes = names.into_iter().filter(|name| name.starts_with("checkpoints/"));
        notes.map(|name| Ok((name.clone(), self.text(&name)?.unwrap_or_default()))).collect()
    }
}

fn walk(folder: &Path, prefix: &str, names: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{name}/"), names)?;
        } else {
            names.insert(name);
        }
    }
    Ok(())
}

/// The files of a zip file; `None` when it is none.
fn unpack(path: &Path) -> io::Result<Option<BTreeMap<String, Vec<u8>>>> {
    let mut file = File::open(path)?;
    let mut magic = [0; 2];
    if file.read(&mut magic)? < 2 || &magic != b"PK" {
        return Ok(None);
    }
    let mut archive = zip::ZipArchive::new(file).map_err(io::Error::other)?;
    // The library keeps the last of several files with one name, and other programs show the first.
    if entries(&fs::read(path)?, archive.central_directory_start()) != archive.len() {
        return Err(io::Error::other("a file stands in it twice"));
    }
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.insert(entry.name().map_err(io::Error::other)?.into_owned(), bytes);
    }
    Ok(Some(files))
}

/// How many entries the central directory of a zip file has that begins there (APPNOTE.TXT 4.3.12): each has 46 bytes, with
/// the lengths of three texts that follow at 28, 30 and 32.
fn entries(zip: &[u8], start: u64) -> usize {
    let mut rest = usize::try_from(start).ok().and_then(|start| zip.get(start..)).unwrap_or_default();
    let mut count = 0;
    while let Some(fixed) = rest.get(..46).filter(|fixed| fixed.starts_with(b"PK\x01\x02")) {
        let texts = [28, 30, 32].map(|at| usize::from(u16::from_le_bytes([fixed[at], fixed[at + 1]])));
        rest = rest.get(46 + texts.iter().sum::<usize>()..).unwrap_or_default();
        count += 1;
    }
    count
}

/// What was verified of an export or a dossier.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Of an export: the whole log.
    pub log: Option<Verified>,
    /// Of a dossier: account, its events, and the size of the signed log.
    pub account: Option<(String, u64, u64)>,
    pub checkpoints: u64,
    /// The number of events that the largest of them signed; what came later is not signed yet.
    pub signed: u64,
    /// The keys that came along, with which alone signatures were checked when none was given.
    pub keys: Vec<String>,
    /// Everything beside the events; none when there were only events.
    pub contents: Option<Contents>,
}

/// Verifies an export or a dossier, alone. `keys`: from elsewhere; `kept`: checkpoints that somebody kept, by name.
///
/// # Errors
/// The first thing that does not hold.
pub fn verify_bundle(
    bundle: &Bundle,
    keys: &[VerifierKey],
    kept: &[(String, Checkpoint)],
) -> Result<(Report, Vouched), Problem> {
    let along = along(bundle)?;
    let names: Vec<String> = along.iter().map(ToString::to_string).collect();
    let keys = if keys.is_empty() { &along } else { keys };
    if bundle.is_dossier() {
        return verify_dossier(bundle, keys, kept, names);
    }
    let notes = if bundle.is_lines() { Vec::new() } else { bundle.checkpoints()? };
    let mut checkpoints = read_checkpoints(notes, keys)?;
    let misnamed = checkpoints.iter().find(|(name, one)| *name != checkpoint_file(one.size));
    if let Some((name, one)) = misnamed {
        return Err(Problem::general(format_args!("{name} is the checkpoint of {} events", one.size)));
    }
    let count = checkpoints.len() as u64;
    let signed = checkpoints.iter().map(|(_, one)| one.size).max().unwrap_or_default();
    checkpoints.extend(kept.iter().cloned());
    let lines = bundle.lines().map_err(Problem::general)?;
    let (log, vouched) = verify_lines(lines, checkpoints)?;
    let contents = if bundle.is_lines() {
        None
    } else {
        let names = bundle.names().map_err(Problem::general)?;
        if let Some(name) = names.iter().find(|name| !is_of_an_export(name)) {
            return Err(Problem::general(format_args!("{name} is no file of an export")));
        }
        Some(verify_contents(&vouched, &names, |name| bundle.read(name))?)
    };
    let report = Report { log: Some(log), account: None, checkpoints: count, signed, keys: names, contents };
    Ok((report, vouched))
}

/// The public keys that came along.
fn along(bundle: &Bundle) -> Result<Vec<VerifierKey>, Problem> {
    let text = if bundle.is_lines() { None } else { bundle.text("keys.txt")? };
    let keys = text.unwrap_or_default();
    keys.lines().map(|line| VerifierKey::parse(line).map_err(Problem::general)).collect()
}

/// Of anything else nobody could say whether it is true.
fn is_of_an_export(name: &str) -> bool {
    matches!(name, "events.ndjson" | "messages.ndjson" | "notes.ndjson" | "attempts.ndjson" | "keys.txt")
        || name.starts_with("messages/")
        || name.starts_with("checkpoints/")
}

/// The file of a checkpoint in an export.
#[must_use]
pub fn checkpoint_file(size: u64) -> String {
    format!("checkpoints/{size}.txt")
}

fn verify_dossier(
    bundle: &Bundle,
    keys: &[VerifierKey],
    kept: &[(String, Checkpoint)],
    along: Vec<String>,
) -> Result<(Report, Vouched), Problem> {
    let missing = |name: &str| Problem::general(format_args!("{name} is missing"));
    let names = bundle.names().map_err(Problem::general)?;
    let manifest = bundle.text("MANIFEST.sha256")?.ok_or_else(|| missing("MANIFEST.sha256"))?;
    let mut listed = BTreeSet::new();
    for line in manifest.lines() {
        let (sha256, name) =
            line.split_once("  ").ok_or_else(|| Problem::general("MANIFEST.sha256 holds a line that is none of it"))?;
        let bytes = bundle.read(name).map_err(Problem::general)?.ok_or_else(|| missing(name))?;
        if hex::encode(Sha256::digest(&bytes)) != sha256 {
            return Err(Problem::general(format_args!("{name} was altered: MANIFEST.sha256 has another hash")));
        }
        listed.insert(name.to_owned());
    }
    if let Some(name) = names.iter().find(|name| *name != "MANIFEST.sha256" && !listed.contains(*name)) {
        return Err(Problem::general(format_args!("{name} is not in MANIFEST.sha256")));
    }
    let proof = bundle.text("proof.json")?.ok_or_else(|| missing("proof.json"))?;
    let proved = verify_proof(&proof, keys)?;
    if proved.since.is_some() {
        return Err(Problem::general(
            "proof.json of a dossier proves no growth of the log, and this one says that it does",
        ));
    }
    if let Some((name, _)) =
        kept.iter().find(|(_, kept)| (kept.size, kept.root) != (proved.checkpoint.size, proved.checkpoint.root))
    {
        return Err(Problem::general(format_args!("{name} is not the checkpoint of this dossier")));
    }
    let contents = verify_contents(&proved.vouched, &names, |name| bundle.read(name))?;
    for name in names.iter().filter(|name| name.starts_with("texts/")) {
        let bytes = bundle.read(name).map_err(Problem::general)?.unwrap_or_default();
        let sha256 = hex::encode(Sha256::digest(&bytes));
        if *name != format!("texts/{sha256}.txt") || !proved.texts.iter().any(|text| text.contains(&sha256)) {
            return Err(Problem::general(format_args!("{name} is not a text whose hash a proved event names")));
        }
    }
    let report = Report {
        log: None,
        account: Some((proved.account, proved.events, proved.checkpoint.size)),
        checkpoints: 1,
        signed: proved.checkpoint.size,
        keys: along,
        contents: Some(contents),
    };
    Ok((report, proved.vouched))
}

/// Whether a later export extends an earlier one, both verified before: returns how many events were added.
///
/// # Errors
/// When the later one is the shorter, or they part somewhere.
pub fn verify_growth(earlier: &Bundle, later: &Bundle) -> Result<u64, Problem> {
    let mut ours = earlier.lines().map_err(Problem::general)?;
    let mut theirs = later.lines().map_err(Problem::general)?;
    let mut seq = 0;
    loop {
        seq += 1;
        match (ours.next().transpose(), theirs.next().transpose()) {
            (Ok(Some(one)), Ok(Some(other))) if one == other => {}
            (Ok(Some(_)), Ok(Some(_))) => {
                let what = "the two logs part here: one of them was rewritten".to_owned();
                return Err(Problem { seq, what });
            }
            (Ok(Some(_)), Ok(None)) => {
                let what = "it is missing in the export that should be the later one: its tail was cut off, or the two \
                            were swapped";
                return Err(Problem { seq, what: what.to_owned() });
            }
            (Ok(None), Ok(Some(_))) => return Ok(theirs.count() as u64 + 1),
            (Ok(None), Ok(None)) => return Ok(0),
            (Err(error), _) | (_, Err(error)) => return Err(Problem::general(error)),
        }
    }
}
