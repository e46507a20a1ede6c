"""Verifies an audit log from docs/formats.md alone: shares no code with Postern, and needs nothing but Python.

usage: verify_log.py LOG [--key NAME=BASE64]... [--notes FILE] [--head SIZE:HASH]... [--origin NAME]

LOG is an export, or a database of SQLite's. Prints {"accepted", "proven", "why"}.
"""

import base64
import datetime
import hashlib
import json
import re
import sqlite3
import sys

ZEROES = "0" * 64
SKEW = 300_000_000  # microseconds
KINDS = set(
    "admission request policy signature manifest_signature policy_load tamper settings signer signer_rotation host "
    "clock lost".split()
)
TEXTS = set(
    "gateway method path policy policy_digest reason request_id rule signer_id subject tenant".split()
)
REQUIRED = {"id", "kind", "prev_hash", "recorded", "seq", "time"}
OPTIONAL = TEXTS | {"decision", "detail", "latency_us", "status"}


class Refused(Exception):
    pass


def need(condition, why):
    if not condition:
        raise Refused(why)


# --- Ed25519 (RFC 8032), verification only ---------------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT % P
    if (x * x - x2) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return (x, y, 1, x * y % P)


def add(a, b):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = a, b
    e = (y1 - x1) * (y2 - x2) % P
    f = (y1 + x1) * (y2 + x2) % P
    g, h = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    i, j, k, m = f - e, h - g, h + g, f + e
    return (i * j % P, k * m % P, j * k % P, i * m % P)


def times(n, a):
    total = (0, 1, 1, 0)
    while n:
        if n & 1:
            total = add(total, a)
        a, n = add(a, a), n >> 1
    return total


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed25519(key, message, signature):
    a, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    one, two = times(s, BASE), add(r, times(h, a))
    return (one[0] * two[2] - two[0] * one[2]) % P == 0 and (one[1] * two[2] - two[1] * one[2]) % P == 0


# --- RFC 8785 --------------------------------------------------------------------------------------------------------


def number(value):
    value = float(value)
    need(abs(value) < float("inf"), "a number out of range")
    if value == 0:
        return "0"
    sign, value = ("-", -value) if value < 0 else ("", value)
    mantissa, _, exponent = f"{value!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        text = digits + "0" * (point - count)
    elif 0 < point <= 21:
        text = digits[:point] + "." + digits[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        tail = "." + digits[1:] if count > 1 else ""
        text = f"{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return sign + text


def canonical(value):
    if value is None or value is True or value is False:
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    names = sorted(value, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join(canonical(name) + ":" + canonical(value[name]) for name in names) + "}"


def depth(value):
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


# --- Values ----------------------------------------------------------------------------------------------------------

TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{6})Z", re.ASCII)
EPOCH = datetime.datetime(1970, 1, 1)


def moment(text):
    """Microseconds since 1970."""
    found = TIME.fullmatch(text) if isinstance(text, str) else None
    need(found, "a time of another form")
    try:
        since = datetime.datetime(*map(int, found.groups())) - EPOCH
    except ValueError:
        raise Refused("no such time") from None
    need(since >= datetime.timedelta(0), "a time before 1970")
    return since // datetime.timedelta(microseconds=1)


def is_whole(value, most):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def is_hash(value):
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def is_id(value):
    return isinstance(value, str) and (
        re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", value) is not None
    )


def record(payload):
    """Reads a payload."""
    try:
        value = json.loads(payload)
        written = canonical(value)
        written.encode()
    except (ValueError, OverflowError, RecursionError):
        raise Refused("the payload is no JSON") from None
    need(written == payload and isinstance(value, dict), "the payload is not canonical")
    need(depth(value) <= 127, "the payload is nested too deep")
    need(REQUIRED <= set(value) <= REQUIRED | OPTIONAL, "a member is missing, or unknown")
    need(all(isinstance(value.get(name, ""), str) for name in TEXTS), "a text is none")
    need(value.get("decision", "allowed") in ("allowed", "denied", "failed"), "another decision")
    need(isinstance(value["kind"], str) and value["kind"] in KINDS, "another kind")
    need("detail" not in value or isinstance(value["detail"], dict) and value["detail"], "detail")
    need(is_whole(value.get("latency_us", 0), 2**64 - 1), "latency_us")
    need(is_whole(value.get("status", 0), 65535), "status")
    need(is_whole(value["seq"], 2**64 - 1) and is_hash(value["prev_hash"]) and is_id(value["id"]), "seq, prev_hash, id")
    moment(value["time"])
    moment(value["recorded"])
    return value


# --- Checkpoints -----------------------------------------------------------------------------------------------------


def note(text):
    """Reads a note: (origin, size, hash, time, body, signatures)."""
    need(isinstance(text, str) and all(c >= " " or c == "\n" for c in text), "a control character in a note")
    body, blank, lines = text.rpartition("\n\n")
    need(blank and lines.endswith("\n") and len(text.encode()) <= 1_000_000, "no note")
    signatures = []
    lines = lines[:-1].split("\n")
    need(len(lines) <= 100, "too many signatures")
    for line in lines:
        dash, name, encoded = (line.split(" ", 2) + ["", ""])[:3]
        try:
            data = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise Refused("no Base64") from None
        need(base64.b64encode(data).decode() == encoded and len(data) >= 5, "no signature")
        need(dash == "\u2014" and name and "+" not in name and not any(map(str.isspace, name)), "no name")
        if len(data) == 68:
            signatures.append((name, data[:4], data[4:]))
    need(signatures, "no Ed25519 signature")
    parts = body.split("\n")
    need(len(parts) == 4, "not four lines")
    origin, size, encoded, time = parts
    plain = origin.strip() == origin and not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in origin)
    need(origin and plain and len(origin.encode()) <= 256, "no origin")
    need(re.fullmatch("0|[1-9][0-9]*", size) and int(size) < 2**64, "no size")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise Refused("no Base64") from None
    need(len(digest) == 32 and base64.b64encode(digest).decode() == encoded, "no hash")
    need(time.startswith("time "), "no time")
    return origin, int(size), digest.hex(), moment(time[5:]), body + "\n", signatures


def key_id(name, key):
    return hashlib.sha256(name.encode() + b"\n\x01" + key).digest()[:4]


def signed(body, signatures, keys):
    """Refuses a note unless one of the keys signed it, and none of them wrongly."""
    good = False
    for name, hint, signature in signatures:
        key = keys.get(name)
        if key is None or key_id(name, key) != hint:
            continue
        need(ed25519(key, body.encode(), signature), "a signature is wrong")
        good = True
    need(good, "no signature counts")


def notes_of(text):
    """The notes of a file: what is none is passed over."""
    blocks = [block.strip("\n") for block in re.split("\n\n+", text) if block.strip("\n")]
    at = 0
    while at < len(blocks):
        if at + 1 < len(blocks) and blocks[at + 1].startswith("\u2014 ") and not blocks[at].startswith("\u2014 "):
            try:
                yield note(f"{blocks[at]}\n\n{blocks[at + 1]}\n")
            except Refused:
                pass
            at += 2
        else:
            at += 1


# --- A log -----------------------------------------------------------------------------------------------------------


class Log:
    def __init__(self, keys, origin, kept, heads):
        self.keys, self.origin = keys, origin
        self.size, self.hash, self.recorded, self.first = 0, ZEROES, 0, 1
        self.at = {0: (ZEROES, 0)}
        self.notes, self.ids, self.manifested = {}, set(), {}
        self.rows, self.beyond = None, []
        self.proven, self.last_made = None, 0
        self.kept, self.heads = [], heads
        for found in kept:
            self.check_origin(found[0])
            if keys:
                signed(found[4], found[5], keys)
            self.kept.append(found)

    def check_origin(self, origin):
        self.origin = origin if self.origin is None else self.origin
        need(origin == self.origin, "another log")

    def behind(self, size, digest, recorded):
        self.size, self.hash, self.recorded, self.first = size, digest, recorded, size + 1
        self.at = {size: (digest, recorded)}
        if size == 0:
            need(digest == ZEROES and recorded == 0, "something before the first event")

    def event(self, seq, row_id, digest, payload):
        need(seq == self.size + 1, "an event is missing or out of place")
        need(hashlib.sha256(payload.encode()).hexdigest() == digest, "the payload was changed")
        found = record(payload)
        need(found["seq"] == seq, "seq differs")
        need(row_id is None or row_id == found["id"], "id differs")
        need(found["prev_hash"] == self.hash, "the link is broken")
        recorded = moment(found["recorded"])
        need(recorded >= self.recorded, "the clock went back")
        need(found["id"] not in self.ids, "an id twice")
        self.ids.add(found["id"])
        self.size, self.hash, self.recorded = seq, digest, recorded
        self.at[seq] = (digest, recorded)
        manifest = found.get("detail", {}).get("manifest_hash")
        if found["kind"] == "manifest_signature" and found.get("decision", "allowed") == "allowed" and is_hash(manifest):
            self.manifested[found["id"]] = (manifest, found.get("signer_id"), moment(found["time"]))

    def checkpoint(self, size, text):
        origin, covered, digest, made, body, signatures = note(text)
        need(covered == size, "a checkpoint was moved")
        self.check_origin(origin)
        if self.keys:
            signed(body, signatures, self.keys)
        need(size <= self.size, "the tail is missing")
        need(size in self.at, "a checkpoint was moved")
        need(self.at[size][0] == digest, "the log was replaced")
        need(made >= self.at[size][1], "a checkpoint is older than its event")
        need(made + SKEW >= self.last_made, "a checkpoint is older than the one before")
        self.last_made = max(self.last_made, made)
        self.notes[size] = digest
        if self.keys:
            self.prove(size)

    def prove(self, size):
        if size >= self.first:
            self.proven = max(size, self.proven or 0)

    def manifest(self, row_id, digest, signature, signer, at):
        need(len(digest) == 32 and len(row_id) == 32, "a row of manifest_signatures is none")
        moment(at)
        # The section on signers says whose signatures count when; here, only keys that count always are given.
        if self.keys:
            key = self.keys.get(signer)
            need(key is not None and len(signature) == 64 and ed25519(key, digest, signature), "a manifest's signature")
        self.rows = self.rows or {}
        parts = (row_id[:8], row_id[8:12], row_id[12:16], row_id[16:20], row_id[20:])
        self.rows["-".join(parts)] = (digest.hex(), signer, at)

    def end(self):
        for _, size, digest, made, _, _ in self.kept:
            if size < self.first - 1:
                continue
            need(size <= self.size, "the tail is missing")
            need(self.at[size] and self.at[size][0] == digest, "the log was replaced")
            need(made >= self.at[size][1], "a checkpoint is older than its event")
            need(size < self.first or self.notes.get(size) == digest, "a checkpoint is missing")
            if self.keys:
                self.prove(size)
        for size, digest in self.heads:
            if size < self.first - 1:
                continue
            need(size <= self.size, "the tail is missing")
            need(self.at[size][0] == digest, "the log was replaced")
            self.prove(size)
        if self.rows is not None:
            need(set(self.rows) == set(self.manifested), "manifest signatures and events differ")
            for row_id, (digest, signer, at) in self.rows.items():
                event = self.manifested[row_id]
                need((digest, signer) == event[:2] and abs(moment(at) - event[2]) <= SKEW, "a manifest differs")


# --- Exports and databases -------------------------------------------------------------------------------------------


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


FORMS = {
    "header": ["format", "created", "origin", "behind", "manifests"],
    "event": ["seq", "hash", "payload"],
    "checkpoint": ["size", "note"],
    "manifest_signature": ["id", "manifest_hash", "signature_b64", "signer_id", "signed_at"],
    "end": ["size", "hash", "lines", "sha256"],
}


def line_of(text):
    """Reads a line: (what it is, its members)."""
    try:
        value = json.loads(text)
        written = compact(value)
        written.encode()
    except (ValueError, OverflowError, RecursionError):
        raise Refused("a line is no JSON") from None
    need(isinstance(value, dict) and len(value) == 1 and written == text, "a line is not as it is written")
    ((kind, members),) = value.items()
    need(kind in FORMS and isinstance(members, dict) and list(members) == FORMS[kind], "a line of another form")
    whole = {"seq", "size", "lines"}
    need(all(is_whole(members.get(name, 0), 2**64 - 1) for name in whole), "a number is none")
    need(all(is_hash(members.get(name, ZEROES)) for name in ("hash", "sha256", "manifest_hash")), "a hash is none")
    texts = ("format", "payload", "note", "signature_b64", "signer_id", "signed_at")
    need(all(isinstance(members.get(name, ""), str) for name in texts), "a text is none")
    need(kind != "manifest_signature" or is_id(members["id"]), "an id is none")
    return kind, members


def export(log, data):
    lines = data.split(b"\n")
    need(lines[-1] == b"" and len(lines) >= 3, "cut off")
    need(all(len(line) < 16 << 20 for line in lines), "a line is too long")
    try:
        texts = [line.decode() for line in lines[:-1]]
    except UnicodeDecodeError:
        raise Refused("no UTF-8") from None
    kind, header = line_of(texts[0])
    behind = header["behind"] if kind == "header" else None
    need(kind == "header" and header["format"] == "postern-audit/1", "no export")
    moment(header["created"])
    need(header["origin"] is None or isinstance(header["origin"], str), "no origin")
    need(isinstance(header["manifests"], bool), "manifests")
    need(isinstance(behind, dict) and list(behind) == ["size", "hash", "recorded"], "behind")
    need(is_whole(behind["size"], 2**64 - 1) and is_hash(behind["hash"]), "behind")
    log.behind(behind["size"], behind["hash"], moment(behind["recorded"]))
    need(not header["manifests"] or behind["size"] == 0, "signatures of manifests in a part")
    log.rows = {} if header["manifests"] else None
    began, noted, digest, notes = False, None, hashlib.sha256(lines[0] + b"\n"), []
    for place, text in enumerate(texts[1:], 1):
        kind, members = line_of(text)
        if kind == "end":
            need(place == len(texts) - 1, "something follows the end")
            need((members["size"], members["hash"]) == (log.size, log.hash), "another end")
            need((members["lines"], members["sha256"]) == (place, digest.hexdigest()), "other lines")
            log.end()
            return
        if kind == "event":
            need(noted is None or noted <= log.size, "a checkpoint was moved")
            began = True
            log.event(members["seq"], None, members["hash"], members["payload"])
        elif kind == "checkpoint":
            size = members["size"]
            need(size >= log.size and (noted is None or noted < size), "a checkpoint was moved")
            noted = size
            log.checkpoint(size, members["note"])
        elif kind == "manifest_signature":
            need(header["manifests"] and not began, "a signature out of place")
            try:
                signature = base64.b64decode(members["signature_b64"], validate=True)
            except ValueError:
                raise Refused("no Base64") from None
            need(base64.b64encode(signature).decode() == members["signature_b64"], "no Base64")
            row_id = members["id"].replace("-", "")
            digest_of = bytes.fromhex(members["manifest_hash"])
            log.manifest(row_id, digest_of, signature, members["signer_id"], members["signed_at"])
        else:
            raise Refused("a second header")
        digest.update(lines[place] + b"\n")
    raise Refused("no last line")


def database(log, path):
    store = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    store.text_factory = bytes
    log.rows = {}
    for row_id, digest, signature, signer, at in store.execute(
        "SELECT id, manifest_hash, signature, signer_id, signed_at FROM manifest_signatures"
    ):
        log.manifest(row_id.hex(), digest, signature, signer.decode(), at.decode())
    for seq, row_id, payload, digest in store.execute("SELECT seq, id, payload, hash FROM audit_events ORDER BY seq"):
        found = row_id.hex()
        found = "-".join((found[:8], found[8:12], found[12:16], found[16:20], found[20:]))
        try:
            log.event(seq, found, digest.hex(), payload.decode())
        except UnicodeDecodeError:
            raise Refused("no UTF-8") from None
    for size, text in store.execute("SELECT size, note FROM audit_checkpoints ORDER BY size"):
        try:
            log.checkpoint(size, text.decode())
        except UnicodeDecodeError:
            raise Refused("no UTF-8") from None
    log.end()


def verify(path, keys=None, notes="", heads=(), origin=None):
    """(accepted, proven, why)"""
    try:
        log = Log(keys or {}, origin, list(notes_of(notes)), list(heads))
        with open(path, "rb") as file:
            data = file.read()
        if data.startswith(b"SQLite format 3\0"):
            database(log, path)
        else:
            export(log, data)
        return True, log.proven, None
    except Refused as refused:
        return False, None, str(refused)


def main(args):
    path, keys, notes, heads, origin = None, {}, "", [], None
    args = iter(args)
    for arg in args:
        if arg == "--key":
            name, _, key = next(args).partition("=")
            keys[name] = base64.b64decode(key)
        elif arg == "--notes":
            with open(next(args), encoding="utf-8") as file:
                notes = file.read()
        elif arg == "--head":
            size, _, digest = next(args).partition(":")
            heads.append((int(size), digest))
        elif arg == "--origin":
            origin = next(args)
        else:
            path = arg
    accepted, proven, why = verify(path, keys, notes, heads, origin)
    print(json.dumps({"accepted": accepted, "proven": proven, "why": why}))


if __name__ == "__main__":
    main(sys.argv[1:])
