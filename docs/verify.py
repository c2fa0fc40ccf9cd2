#!/usr/bin/env python3
"""Checks an export or a dossier of dunningd without dunningd: verify.py PATH [PUBLIC-KEY]. docs/verify.md has the formats.

Python's own library is enough for everything but signatures; those need the package `cryptography`."""
import base64, hashlib, hmac, json, pathlib, sys, zipfile

def sha(*parts): return hashlib.sha256(b"".join(parts)).digest()
def b64(text): return base64.b64decode(text, validate=True)
def need(holds, what):
    if not holds: raise SystemExit(f"REJECTED: {what}")
def once(pairs):
    need(len({key for key, _ in pairs}) == len(pairs), "a key stands twice in one object")
    return dict(pairs)
def parse(text): return json.loads(text, object_pairs_hook=once)

def load(path):
    if path.is_dir(): return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    packed = zipfile.ZipFile(path)
    need(len(set(packed.namelist())) == len(packed.namelist()), "a file stands twice in the zip")
    return {name: packed.read(name) for name in packed.namelist()}

def fold(edge):                                   # the root from the roots of the perfect subtrees, largest first
    root = edge[-1][1]
    for _, left in reversed(edge[:-1]): root = sha(b"\1", left, root)
    return root

def climb(leaf, number, size, proof):             # RFC 9162 2.1.3.2
    at, last, root = number, size - 1, leaf
    need(0 <= number < size, f"event {number + 1}: beyond the signed log")
    for sibling in proof:
        need(last > 0, f"event {number + 1}: its proof is too long")
        if at & 1 or at == last:
            root = sha(b"\1", sibling, root)
            while not at & 1 and at: at, last = at >> 1, last >> 1
        else: root = sha(b"\1", root, sibling)
        at, last = at >> 1, last >> 1
    need(last == 0, f"event {number + 1}: its proof is too short")
    return root

def checkpoint(name, note, keys):                 # C2SP tlog-checkpoint and signed-note
    need(note.endswith("\n") and "\n\n" in note, f"{name}: not a signed checkpoint")
    text, lines = note[:-1].rsplit("\n\n", 1)
    origin, size, root = (text.split("\n") + ["", ""])[:3]
    need(size.isascii() and size.isdigit() and str(int(size)) == size and int(size) > 0, f"{name}: no size")
    mine = [line.split(" ") for line in lines.split("\n") if line.startswith("\u2014 " + origin + " ")]
    good = 0
    for key in keys:
        name_of, key_id, public = key.split("+", 2)
        public = b64(public)
        need(public[:1] == b"\1" and sha(name_of.encode(), b"\n", public)[:4].hex() == key_id, f"not a key: {key}")
        for _, _, line in (one for one in mine if name_of == origin and b64(one[2])[:4].hex() == key_id):
            if Ed25519:
                try: Ed25519.from_public_bytes(public[1:]).verify(b64(line)[4:], (text + "\n").encode())
                except InvalidSignature: need(False, f"{name}: its signature does not hold")
            good += 1
    need(good, f"{name}: not signed by the given key")
    return int(size), b64(root)

def contents(events, files):                      # messages, notes and replies are what the events commit to
    seals, erased = {"message": {}, "note": {}, "reply": {}}, []
    for seq, event in events:
        facts, account, notice = event["facts"], event.get("account"), event.get("notice")
        if event["kind"] == "notice_planned": seals["message"][notice] = (seq, account, facts["message_commitment"])
        if facts.get("note_commitment"): seals["note"][facts["note"]] = (seq, account, facts["note_commitment"])
        if facts.get("reply_commitment"):
            told = (notice, facts.get("phase"), facts.get("reply_code"))
            seals["reply"][facts["attempt"]] = (seq, account, facts["reply_commitment"], told)
        if event["kind"] == "redacted": erased += [(seq, account, one) for one in facts["classes"]]
    def gone(seal, classes): return any(n > seal[0] and a == seal[1] and c in classes for n, a, c in erased)
    def rows(name):
        need(name in files, f"{name} is missing")
        return [parse(line) for line in files[name].decode().splitlines()]
    def compare(kind, key, salt, data, classes):
        need(key in seals[kind], f"the log knows no {kind} {key}")
        seal = seals[kind].pop(key)
        if salt is None or data is None: return need(gone(seal, classes), f"event {seal[0]}: its {kind} is missing")
        commitment = hmac.new(salt, data, "sha256").hexdigest()
        need(commitment == seal[2], f"event {seal[0]}: its {kind} was altered")
    salts = {}
    for row in rows("messages.ndjson"):
        whole = not row.get("erased")
        salt = bytes.fromhex(row["salt"]) if whole else None
        compare("message", row["notice"], salt, files.get(row["file"]) if whole else None, ["messages"])
        salts[row["notice"]] = salt
    for row in rows("notes.ndjson"):
        whole = not row.get("erased")
        compare("note", row["note"], bytes.fromhex(row["salt"]) if whole else None,
                row["body"].encode() if whole else None, ["notes"])
    for row in rows("attempts.ndjson"):
        text, seal = row["reply_text"], seals["reply"].get(row["attempt"])
        need(seal or text is None, f"the log knows no reply of attempt {row['attempt']}")
        if not seal: continue
        need(seal[3] == (row["notice"], row["phase"], row["reply_code"]), f"event {seal[0]}: its attempt was altered")
        compare("reply", row["attempt"], salts.get(row["notice"]), text and text.encode(), ["messages", "smtp"])
    for kind, left in seals.items(): need(not left, f"events commit to a {kind} that is not there: {sorted(left)}")

def export(files, keys):
    notes = {name: text.decode() for name, text in files.items() if name.startswith("checkpoints/")}
    ahead, signed, events, chain, edge = {}, 0, [], bytes(32), []
    for name, note in notes.items():
        size, root = checkpoint(name, note, keys)
        need(name == f"checkpoints/{size}.txt", f"{name}: the checkpoint of {size} events")
        ahead[size] = root
    for number, line in enumerate(files["events.ndjson"].decode().splitlines(), 1):
        row = parse(line)
        data = b64(row["bytes"])
        leaf = sha(b"\0", data)
        chain, stored, height = sha(chain, leaf), parse(data), 0
        need(row["seq"] == stored["seq"] == str(number), f"event {number}: its number is another")
        need(row["leaf"] == leaf.hex(), f"event {number}: its bytes were altered")
        need(row["chain"] == chain.hex(), f"event {number}: the chain breaks here")
        node = leaf
        while edge and edge[-1][0] == height: node, height = sha(b"\1", edge.pop()[1], node), height + 1
        edge.append((height, node))
        events.append((number, stored["event"]))
        if number in ahead: need(ahead.pop(number) == fold(edge), f"the checkpoint of {number} events signed another log")
    need(events and not ahead, f"the tail of the log was cut off: {len(events)} events, signed were {sorted(ahead)}")
    need(notes or len(sys.argv) < 3, "there is no checkpoint that the given key could have signed")
    contents(events, files)
    return f"{len(events)} events, {len(notes)} checkpoints, head {chain.hex()}"

def dossier(files, keys):
    listed = dict(reversed(line.split("  ", 1)) for line in files["MANIFEST.sha256"].decode().splitlines())
    need(set(files) - {"MANIFEST.sha256"} == set(listed), "MANIFEST.sha256 lists other files")
    for name, hashed in listed.items(): need(sha(files[name]).hex() == hashed, f"{name} was altered")
    proof, events, texts = parse(files["proof.json"]), [], b""
    size, root = checkpoint("the checkpoint", proof["checkpoint"], keys)
    for row in proof["events"]:
        data, number = b64(row["bytes"]), int(row["seq"])
        stored = parse(data)
        need(climb(sha(b"\0", data), number - 1, size, [b64(one) for one in row["proof"]]) == root,
             f"event {number}: it is not in the signed log")
        need(stored["seq"] == row["seq"] and number not in dict(events), f"event {number}: it carries another number")
        event = stored["event"]
        need(event.get("account") == proof["account"] or event["kind"] == "run_started", f"event {number}: another account")
        events.append((number, event))
        texts += data
    for name in (name for name in files if name.startswith("texts/")):
        hashed = sha(files[name]).hex()
        need(name == f"texts/{hashed}.txt" and hashed.encode() in texts, f"{name}: no proved event names it")
    contents(events, files)
    return f"{len(events)} events of account {proof['account']} and their runs, proved in the log of {size} events"

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey as Ed25519
except ImportError: Ed25519 = None
if __name__ == "__main__":
    if len(sys.argv) not in (2, 3): raise SystemExit(__doc__)
    try:
        given = load(pathlib.Path(sys.argv[1]))
        keys = sys.argv[2:] or given.get("keys.txt", b"").decode().split()
        told = dossier(given, keys) if "proof.json" in given else export(given, keys)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, zipfile.BadZipFile) as error:
        raise SystemExit(f"REJECTED: {type(error).__name__}: {error}")
    print(f"holds together: {told}")
    if not Ed25519: print("signatures were NOT checked: the package `cryptography` is not installed")
    elif len(sys.argv) < 3: print("signatures were checked ONLY with the key that came along; give the public key")
