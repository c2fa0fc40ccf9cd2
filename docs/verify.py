#!/usr/bin/env python3
"""Checks an export or a dossier of dunningd without dunningd: verify.py PATH ["PUBLIC-KEY…" [CHECKPOINT…]].
docs/verify.md has the formats; a CHECKPOINT is a file that somebody kept.

Python's own library is enough for everything but signatures; those need the package `cryptography`."""
import base64, collections, functools, hashlib, hmac, json, pathlib, sys, zipfile
try: from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey as Ed25519
except ImportError: Ed25519 = None

EXPORT = {"events.ndjson", "messages.ndjson", "notes.ndjson", "attempts.ndjson", "keys.txt"}
# What a line must say, and what it may say besides; "erased" is true, all else is a text.
LINES = {"events.ndjson": ("seq bytes leaf chain", ""), "messages.ndjson": ("notice", "file salt erased"),
         "notes.ndjson": ("note", "body salt erased"),
         "attempts.ndjson": ("attempt notice number started_at", "ended_at outcome phase reply_code reply_text detail")}
def sha(*parts): return hashlib.sha256(b"".join(parts)).digest()
def b64(text): return base64.b64decode(text, validate=True)
def need(holds, what):
    if not holds: raise ValueError(what)
def once(pairs):
    need(len(dict(pairs)) == len(pairs), "a key stands twice in one object")
    return dict(pairs)
def parse(text): return json.loads(text, object_pairs_hook=once)
def only(row, must, may=""):
    need(set(must.split()) <= set(row) <= set((must + " " + may).split()), f"unknown or missing keys: {sorted(row)}")
    return row
def rows(files, name):
    lines, (must, may) = [parse(line) for line in files[name].decode().split("\n") if line], LINES[name]
    for row in lines:
        for key, value in only(row, must, may).items():
            fits = isinstance(value, bool) if key == "erased" else isinstance(value, str) or value is None and key in may.split()
            need(fits, f"{name}: {key} is no text")
    return lines

def load(path):
    if path.is_dir(): return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    packed = zipfile.ZipFile(path)
    need(len(set(packed.namelist())) == len(packed.namelist()), "a file stands twice in the zip")
    return {name: packed.read(name) for name in packed.namelist()}

def half(size): return 1 << (size - 1).bit_length() - 1   # the largest power of two below it
def tree(leaves):                                 # RFC 6962 2.1
    @functools.cache
    def root(low, high):
        middle = low + half(high - low) if high - low > 1 else high
        return leaves[low] if middle == high else sha(b"\1", root(low, middle), root(middle, high))
    return root
def climb(leaf, number, size, proof):             # RFC 6962 2.1.1, from the root downwards
    need(0 <= number < size and bool(proof) == (size > 1), "a proof does not fit its event")
    if size == 1: return leaf
    left, sibling = half(size), proof[-1]
    if number < left: return sha(b"\1", climb(leaf, number, left, proof[:-1]), sibling)
    return sha(b"\1", sibling, climb(leaf, number - left, size - left, proof[:-1]))

def checkpoint(note, keys):                       # C2SP tlog-checkpoint and signed-note
    text, _, signatures = note.rpartition("\n\n")
    origin, size, root = text.split("\n")[:3]
    need(size.isascii() and size.isdigit() and size[0] != "0", "a checkpoint without a size")
    signed = keys is None                         # nobody gave a key for it
    for key in keys or []:
        name, key_id, public = key.split("+", 2)
        public = b64(public)
        need(public[:1] == b"\1" and sha(name.encode(), b"\n", public)[:4].hex() == key_id, f"not a key: {key}")
        for dash, signer, signature in (line.split(" ") for line in signatures.removesuffix("\n").split("\n")):
            if (dash, signer, b64(signature)[:4].hex()) == ("\u2014", origin, key_id) and name == origin:
                if Ed25519: Ed25519.from_public_bytes(public[1:]).verify(b64(signature)[4:], (text + "\n").encode())
                signed = True
    need(signed, "a checkpoint is not signed by the given key")
    return int(size), b64(root)

def outcome(kind, reason, facts):                 # of the attempt that an event names
    late = facts.get("outcome") if kind == "late_reply" else "deferred"
    if kind in ("notice_refused", "notice_unknown") and reason in (None, "refused"): return reason or kind.removeprefix("notice_")
    return {"notice_accepted": "accepted"}.get(kind, late)
def contents(events, files):                      # messages, notes, attempts and replies are what the events say
    sealed, tried, stopped, redacted, last, left = {}, {}, set(), [], {}, collections.Counter()
    for seq, stored in events:
        event, at = stored["event"], stored["at"][:19]
        kind, facts, account, notice = event["kind"], event["facts"], event.get("account"), event.get("notice")
        reason, attempt = facts.get("reason"), facts.get("attempt")
        last[notice] = at
        if kind == "notice_planned": sealed["messages", notice] = seq, account, facts["message_commitment"], notice
        if facts.get("note_commitment"):
            last["note", facts["note"]] = at
            sealed["notes", facts["note"]] = seq, account, facts["note_commitment"], ("note", facts["note"])
        if attempt:
            tried[attempt] = notice, outcome(kind, reason, facts), facts.get("phase"), facts.get("reply_code")
            sealed.pop(("replies", attempt), None)
            if facts["reply_commitment"]: sealed["replies", attempt] = seq, account, facts["reply_commitment"], notice
        elif kind in ("notice_cancelled", "notice_unknown"):   # an attempt that was not carried out, or of a process that died
            stopped.add((notice, "unknown" if reason == "instance_died" else "cancelled", None, None))
        if kind == "redacted":
            redacted.append((seq, account, set(facts["classes"]), facts["before"]))
            left.update({(account, one): int(facts[one]) for one in ("messages", "notes", "replies")})
    def compare(kind, key, salt, data, classes):
        need((kind, key) in sealed, f"the log knows none of the {kind} {key}, or it is there twice")
        seq, account, commitment, about = sealed.pop((kind, key))
        if salt is not None and data is not None:
            need(hmac.new(salt, data, "sha256").hexdigest() == commitment, f"event {seq}: altered: {kind} {key}")
            return
        need(any(later > seq and whose == account and named & classes and (before is None or last[about] < before[:19])
                 for later, whose, named, before in redacted), f"event {seq}: missing: {kind} {key}")
        left[account, kind] -= 1
        need(left[account, kind] >= 0, f"event {seq}: missing, and fewer were erased: {kind} {key}")
    def salt_of(row):
        need(not row.get("erased") or not any(map(row.get, ("salt", "file", "body"))), "a line says of one thing that it is here and erased")
        return None if row.get("erased") else bytes.fromhex(row["salt"])
    salts = {row["notice"]: salt_of(row) for row in rows(files, "messages.ndjson")}
    listed = {row.get("file") for row in rows(files, "messages.ndjson")}
    need(listed >= {name for name in files if name.startswith("messages/")}, "there is a message that messages.ndjson does not name")
    for row in rows(files, "messages.ndjson"):
        compare("messages", row["notice"], salt_of(row), files.get(row.get("file")), {"messages"})
    for row in rows(files, "notes.ndjson"): compare("notes", row["note"], salt_of(row), (row.get("body") or "").encode(), {"notes"})
    for row in rows(files, "attempts.ndjson"):
        key, reply, told = row["attempt"], row.get("reply_text"), (row["notice"], *map(row.get, ("outcome", "phase", "reply_code")))
        open_yet = told == (row["notice"], None, None, None)
        need(tried.pop(key) == told if key in tried else open_yet or told in stopped,
             f"attempt {key}: altered, there twice, or no event knows how it ended")
        need(reply is None or salts.get(row["notice"]), f"attempt {key}: a reply that nothing ties to the log")
        if reply is not None or ("replies", key) in sealed:
            compare("replies", key, salts.get(row["notice"]), reply and reply.encode(), {"messages", "smtp"})
    need(not sealed and not tried, f"events tell of what is not there: {sorted(sealed)} {sorted(tried)}")

def export(files, keys, kept, own_key):
    chain, leaves, events = bytes(32), [], []
    for number, row in enumerate(rows(files, "events.ndjson"), 1):
        leaf, stored = sha(b"\0", b64(row["bytes"])), parse(b64(row["bytes"]))
        chain = sha(chain, leaf)
        need(row["seq"] == stored["seq"] == str(number), f"event {number}: its number is another")
        need(row["leaf"] == leaf.hex() and row["chain"] == chain.hex(), f"event {number}: altered, or the chain breaks here")
        leaves.append(leaf)
        events.append((number, stored))
    strays = [name for name in files if not name.startswith(("messages/", "checkpoints/")) and name not in EXPORT]
    need(not strays, f"no files of an export: {strays}")
    root, notes = tree(leaves), [name for name in files if name.startswith("checkpoints/")]
    for name in notes:
        size, signed = checkpoint(files[name].decode(), keys)
        need(name == f"checkpoints/{size}.txt" and size <= len(events), f"{name}: another one, or the tail was cut off")
        need(root(0, size) == signed, f"{name} signed another log")
    need(all(size <= len(events) and root(0, size) == signed for size, signed in kept), "a kept checkpoint signed another log")
    need(events and (notes or kept or not own_key), "there is no event, or no checkpoint that the given key could have signed")
    contents(events, files)
    return f"{len(events)} events, {len(notes)} checkpoints, head {chain.hex()}"

def dossier(files, keys, kept):
    listed = dict(reversed(line.split("  ", 1)) for line in files["MANIFEST.sha256"].decode().splitlines())
    need(listed == {name: sha(data).hex() for name, data in files.items() if name != "MANIFEST.sha256"},
         "MANIFEST.sha256 lists other files, or a file was altered")
    proof, events, proved = only(parse(files["proof.json"]), "v account key checkpoint events"), {}, b""
    size, root = checkpoint(proof["checkpoint"], keys)
    need(all(one == (size, root) for one in kept), "a kept checkpoint is not the one of this dossier")
    for row in proof["events"]:
        only(row, "seq bytes proof")
        data, number = b64(row["bytes"]), int(row["seq"])
        stored, steps = parse(data), [b64(one) for one in row["proof"]]
        need(climb(sha(b"\0", data), number - 1, size, steps) == root, f"event {number}: it is not in the signed log")
        need(stored["seq"] == row["seq"] and number > max(events, default=0), f"event {number}: it carries another number, or stands elsewhere")
        events[number], event = stored, stored["event"]
        need(event.get("account") == proof["account"] or event["kind"] == "run_started", f"event {number}: another account")
        proved += data
    for name in (name for name in files if name.startswith("texts/")):
        hashed = sha(files[name]).hex()
        need(name == f"texts/{hashed}.txt" and hashed.encode() in proved, f"{name}: no proved event names it")
    contents(events.items(), files)
    return f"{len(events)} events of account {proof['account']} and their runs, proved in the log of {size} events"

if __name__ == "__main__":
    if len(sys.argv) < 2: raise SystemExit(__doc__)
    try:
        given = load(pathlib.Path(sys.argv[1]))
        own = " ".join(sys.argv[2:3]).split()
        keys = own or given.get("keys.txt", b"").decode().split()
        kept = [checkpoint(pathlib.Path(one).read_text(), own or None) for one in sys.argv[3:]]
        told = dossier(given, keys, kept) if "proof.json" in given else export(given, keys, kept, own)
    except Exception as error: raise SystemExit(f"REJECTED: {type(error).__name__}: {error}")
    print(f"holds together: {told}")
    if "proof.json" not in given and not kept and not any(name.startswith("checkpoints/") for name in given):
        print("there is no checkpoint, so there was no signature to check")
    elif not Ed25519: print("signatures were NOT checked: the package `cryptography` is not installed")
    elif not own: print("signatures were checked ONLY with the key that came along; give the public key")
    if kept and not own: print("signatures of the checkpoints that you kept were NOT checked; give the public key")
