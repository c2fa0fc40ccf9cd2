#!/usr/bin/env python3
"""Checks an export or a dossier of dunningd without dunningd: verify.py PATH ["PUBLIC-KEY…" [CHECKPOINT…]].
docs/verify.md has the formats and the rules. It needs Python's own library, and the package `cryptography`."""
import base64, collections, functools, hashlib, hmac, itertools, json, pathlib, sys, zipfile
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
sys.excepthook = lambda kind, error, _: print(f"REJECTED: {kind.__name__}: {error}", file=sys.stderr)
LINES = [sorted(keys.split()) for keys in (            # the keys of each kind of line, and of a proof
    "seq bytes leaf chain", "notice file salt", "notice erased", "note body salt", "note erased", "seq bytes proof",
    "attempt notice number started_at ended_at outcome phase reply_code reply_text detail",
    "v account key checkpoint events")]
OUTCOMES = {("notice_accepted", None): "accepted", ("notice_refused", None): "refused",
            ("notice_unknown", None): "unknown", ("notice_unknown", "refused"): "refused"}           # else "deferred"

def sha(*parts): return hashlib.sha256(b"".join(parts)).digest()
def seal(salt, words): return hmac.new(bytes.fromhex(salt), words, "sha256").hexdigest()
def b64(text): return base64.b64decode(text, validate=True)
def need(holds, what):
    if not holds: raise ValueError(what)
def line_of(pairs):                                    # no key unknown, missing or twice, and texts as values
    need(sorted(key for key, _ in pairs) in LINES, f"not the keys of a line: {[key for key, _ in pairs]}")
    for key, value in pairs:
        text = isinstance(value, (str, list)) or value is None and key not in ("number", "started_at")
        need(value is True if key == "erased" else text, f"{key} is no text")
    return dict(pairs)
read = functools.partial(json.loads, object_pairs_hook=line_of)
def lines(name): return [read(line) for line in files.pop(name).splitlines()]
def half(size): return 1 << (size - 1).bit_length() - 1                      # the largest power of two below size
@functools.cache
def tree(low, high):                                   # RFC 6962 2.1: the root over these leaves of an export
    if high - low == 1: return leaves[low]
    return sha(b"\1", tree(low, low + half(high - low)), tree(low + half(high - low), high))
def climb(leaf, index, size, proof):                   # RFC 6962 2.1.1: the root that an inclusion proof leads to
    need(0 <= index < size and (size > 1) == bool(proof), "a proof does not fit its event")
    if size == 1: return leaf
    if index < half(size): return sha(b"\1", climb(leaf, index, half(size), proof[:-1]), proof[-1])
    return sha(b"\1", proof[-1], climb(leaf, index - half(size), size - half(size), proof[:-1]))
def checkpoint(note, keys):                            # C2SP tlog-checkpoint, a signed note; without keys only read
    text, _, signatures = note.rpartition("\n\n")
    origin, size, root, *_ = text.split("\n")
    given = [b64(one) for dash, name, one in map(str.split, signatures.splitlines()) if (dash, name) == ("—", origin)]
    ours = [(key, one) for key in keys for one in given if key.startswith(f"{origin}+{one[:4].hex()}+")]
    for key, signature in ours:
        public = Ed25519PublicKey.from_public_bytes(b64(key.split("+", 2)[2])[1:])
        public.verify(signature[4:], f"{text}\n".encode())
    need((ours or not keys) and int(size) > 0, "a checkpoint is not signed by the given key")
    return int(size), b64(root)

if len(sys.argv) < 2: raise SystemExit(__doc__)
path, own = pathlib.Path(sys.argv[1]), " ".join(sys.argv[2:3]).split()
packed = None if path.is_dir() else zipfile.ZipFile(path)
names = packed.namelist() if packed else [it.relative_to(path).as_posix() for it in path.rglob("*") if it.is_file()]
files = {name: packed.read(name) if packed else (path / name).read_bytes() for name in names}
need(len(files) == len(names), "a file stands twice in the zip")
keys = own or files.get("keys.txt", b"").decode().split() or ["none+came+along"]
kept = [checkpoint(pathlib.Path(name).read_text("utf-8"), own) for name in sys.argv[3:]]
dossier = "proof.json" in files
if dossier:                                            # every file by the manifest, every event by its proof
    manifest = sorted(f"{sha(files[name]).hex()}  {name}" for name in files if name != "MANIFEST.sha256")
    need(sorted(files["MANIFEST.sha256"].decode().splitlines()) == manifest, "MANIFEST.sha256 lists others")
    proof = read(files["proof.json"])
    events, (size, root) = proof["events"], checkpoint(proof["checkpoint"], keys)
    need(set(kept) <= {(size, root)}, "a kept checkpoint is not the one of this dossier")
    need(all(int(one["seq"]) < int(after["seq"]) for one, after in zip(events, events[1:])), "events out of order")
    for line in events:
        reached = climb(sha(b"\0", b64(line["bytes"])), int(line["seq"]) - 1, size, list(map(b64, line["proof"])))
        need(reached == root, f"event {line['seq']}: it is not in the signed log")
    told = f"{len(events)} events of account {proof['account']} and their runs, proved in the log of {size} events"
else:                                                  # every event by the chain, and by the signed roots
    signed = {name: checkpoint(files.pop(name).decode(), keys) for name in names if name.startswith("checkpoints/")}
    events = lines("events.ndjson")
    leaves = [sha(b"\0", b64(line["bytes"])) for line in events]
    need(events and (signed or kept or not own), "no event, or no checkpoint that the given key could have signed")
    heads = [*itertools.accumulate(leaves, sha, initial=bytes(32))]
    for number, line in enumerate(events, 1):
        need((line["seq"], line["leaf"], line["chain"]) == (str(number), leaves[number - 1].hex(), heads[number].hex()),
             f"event {number}: altered or missing, or one before it")
    for name, (size, root) in [*signed.items(), *(("a kept checkpoint", one) for one in kept)]:
        need(size <= len(events) and tree(0, size) == root, f"{name} signed another log, or its tail was cut off")
        need(name in (f"checkpoints/{size}.txt", "a kept checkpoint"), f"{name} is the checkpoint of {size} events")
    told = f"{len(events)} events, {len(signed)} checkpoints, head {heads[-1].hex()}"

log = []                                               # what the events say of that which lies beside them
for line in events:
    stored = json.loads(b64(line["bytes"]))
    event, facts, number = stored["event"], stored["event"]["facts"], line["seq"]
    need(stored["seq"] == number, f"event {number}: it carries another number")
    need(not dossier or event.get("account") == proof["account"] or event["kind"] == "run_started",
         f"event {number}: about another account")
    log.append({**facts, "number": int(number), "at": stored["at"][:19], "kind": event["kind"],
                "reason": facts.get("reason"), "account": event.get("account"), "about": event.get("notice") or number})
last = {event["about"]: event["at"] for event in log}
tries = {event["attempt"]: event for event in log if "attempt" in event}
ended = {(key, event["about"], OUTCOMES.get((event["kind"], event["reason"]), event.get("outcome", "deferred")),
          event["phase"], event["reply_code"]) for key, event in tries.items()}
unnamed = {(event["about"], None, None, None) for event in log} | {                   # not ended; or not carried out
    (event["about"], "unknown" if event["reason"] == "instance_died" else "cancelled", None, None)
    for event in log if event["kind"] in ("notice_cancelled", "notice_unknown") and "attempt" not in event}
sealed = {("messages", one["about"], one["message_commitment"]): one for one in log if one["kind"] == "notice_planned"}
sealed |= {("notes", one["note"], one["note_commitment"]): one for one in log if "note_commitment" in one}
sealed |= {("replies", key, one["reply_commitment"]): one for key, one in tries.items() if one["reply_commitment"]}

messages, notes, attempts = (lines(f"{name}.ndjson") for name in ("messages", "notes", "attempts"))
listed = [("messages", line["notice"]) for line in messages] + [("notes", line["note"]) for line in notes]
need(sorted(listed) == sorted(one[:2] for one in sealed if one[0] != "replies"), "the log has other messages or notes")
messages, notes = ([line for line in some if "erased" not in line] for some in (messages, notes))
salts = {line["notice"]: line["salt"] for line in messages}
here = {("messages", line["notice"], seal(line["salt"], files.pop(line["file"], b""))) for line in messages}
here |= {("notes", line["note"], seal(line["salt"], line["body"].encode())) for line in notes}
here |= {("replies", line["attempt"], seal(salts.get(line["notice"], ""), line["reply_text"].encode()))
         for line in attempts if line["reply_text"] is not None}
need(here <= sealed.keys(), f"altered, or unknown to the log: {sorted(here - sealed.keys())}")
shown = {tuple(line[key] for key in ("attempt", "notice", "outcome", "phase", "reply_code")) for line in attempts}
need(ended <= shown, f"attempts that are missing or did not end like this: {sorted(ended - shown)}")
twice = len({attempt for attempt, *_ in shown}) < len(attempts)
need(not twice and {one[1:] for one in shown - ended} <= unnamed, "an attempt is there twice, or no event knows it")
missing, redacted = sealed.keys() - here, [event for event in log if event["kind"] == "redacted"]
for what, key, commitment in missing:
    event = sealed[what, key, commitment]
    later = [one for one in redacted if one["account"] == event["account"] and one["number"] > event["number"]]
    need(any(int(one[what]) and (not one["before"] or last[event["about"]] < one["before"][:19]) for one in later),
         f"event {event['number']}: {what} {key} is missing, and no event erased it")
left = collections.Counter((sealed[one]["account"], one[0]) for one in missing)
for one in redacted: left.subtract({(one["account"], what): int(one[what]) for what, *_ in missing})
need(max(left.values(), default=0) <= 0, f"more is missing than events say was erased: {+left}")
proved = b"".join(b64(line["bytes"]) for line in events) if dossier else b""
texts = {f"texts/{hashed}.txt" for hashed in (sha(data).hex() for data in files.values()) if hashed.encode() in proved}
stray = {name for name in files if name.startswith(("messages/", "texts/") if dossier else "")} - texts - {"keys.txt"}
need(not stray, f"nothing ties these files to the log: {sorted(stray)}")

print(f"holds together: {told}")
far = 0 if dossier else max([size for size, _ in [*signed.values(), *kept]], default=0)
if not dossier and not far: print("there is no checkpoint, so there was no signature to check")
elif not own: print("signatures were checked ONLY with the key that came along; give the public key")
if 0 < far < len(events): print(f"events {far + 1} to {len(events)} are signed by nobody yet")
if kept and not own: print("signatures of the checkpoints that you kept were NOT checked; give the public key")
