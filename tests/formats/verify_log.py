"""Verifies an audit log as docs/formats.md specifies. Shares no code with Postern and needs only Python.

usage: verify_log.py LOG [--key NAME=BASE64]... [--notes FILE] [--head SIZE:HASH]... [--origin NAME]

LOG is an export or a SQLite database. Prints {"accepted", "proven", "why"}.
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


class Rejected(Exception):
    pass


def require(condition, why):
    if not condition:
        raise Rejected(why)


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
    require(abs(value) < float("inf"), "a number out of range")
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


def microseconds(text):
    """Microseconds since 1970."""
    found = TIME.fullmatch(text) if isinstance(text, str) else None
    require(found, "a malformed time")
    try:
        since = datetime.datetime(*map(int, found.groups())) - EPOCH
    except ValueError:
        raise Rejected("an impossible time") from None
    require(since >= datetime.timedelta(0), "a time before 1970")
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
    """Parses a payload."""
    try:
        value = json.loads(payload)
        written = canonical(value)
        written.encode()
    except (ValueError, OverflowError, RecursionError):
        raise Rejected("the payload is not JSON") from None
    require(written == payload and isinstance(value, dict), "the payload is not canonical")
    require(depth(value) <= 127, "the payload is nested too deeply")
    require(REQUIRED <= set(value) <= REQUIRED | OPTIONAL, "a missing or unknown member")
    require(all(isinstance(value.get(name, ""), str) for name in TEXTS), "a member is not a string")
    require(value.get("decision", "allowed") in ("allowed", "denied", "failed"), "an unknown decision")
    require(isinstance(value["kind"], str) and value["kind"] in KINDS, "an unknown kind")
    require("detail" not in value or isinstance(value["detail"], dict) and value["detail"], "an invalid detail")
    require(is_whole(value.get("latency_us", 0), 2**64 - 1), "an invalid latency_us")
    require(is_whole(value.get("status", 0), 65535), "an invalid status")
    require(is_whole(value["seq"], 2**64 - 1) and is_hash(value["prev_hash"]) and is_id(value["id"]), "an invalid seq, prev_hash or id")
    microseconds(value["time"])
    microseconds(value["recorded"])
    return value


# --- Checkpoints -----------------------------------------------------------------------------------------------------


def note(text):
    """Parses a note: (origin, size, hash, time, body, signatures)."""
    require(isinstance(text, str) and all(c >= " " or c == "\n" for c in text), "a control character in a note")
    body, blank, lines = text.rpartition("\n\n")
    require(blank and lines.endswith("\n") and len(text.encode()) <= 1_000_000, "a malformed note")
    signatures = []
    lines = lines[:-1].split("\n")
    require(len(lines) <= 100, "too many signatures")
    for line in lines:
        dash, name, encoded = (line.split(" ", 2) + ["", ""])[:3]
        try:
            data = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise Rejected("invalid Base64") from None
        require(base64.b64encode(data).decode() == encoded and len(data) >= 5, "a malformed signature")
        require(dash == "\u2014" and name and "+" not in name and not any(map(str.isspace, name)), "an invalid signer name")
        if len(data) == 68:
            signatures.append((name, data[:4], data[4:]))
    require(signatures, "no Ed25519 signature")
    parts = body.split("\n")
    require(len(parts) == 4, "a note body without four lines")
    origin, size, encoded, time = parts
    plain = origin.strip() == origin and not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in origin)
    require(origin and plain and len(origin.encode()) <= 256, "an invalid origin")
    require(re.fullmatch("0|[1-9][0-9]*", size) and int(size) < 2**64, "an invalid size")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise Rejected("invalid Base64") from None
    require(len(digest) == 32 and base64.b64encode(digest).decode() == encoded, "an invalid hash")
    require(time.startswith("time "), "a note without a time")
    return origin, int(size), digest.hex(), microseconds(time[5:]), body + "\n", signatures


def key_id(name, key):
    return hashlib.sha256(name.encode() + b"\n\x01" + key).digest()[:4]


def verify_note(body, signatures, keys):
    """Rejects a note without a signature by one of the keys, or with a wrong signature by one of them."""
    good = False
    for name, hint, signature in signatures:
        key = keys.get(name)
        if key is None or key_id(name, key) != hint:
            continue
        require(ed25519(key, body.encode(), signature), "a signature is wrong")
        good = True
    require(good, "no signature by a trusted signer")


def parse_notes(text):
    """The notes of a file. Malformed notes are skipped."""
    blocks = [block.strip("\n") for block in re.split("\n\n+", text) if block.strip("\n")]
    at = 0
    while at < len(blocks):
        if at + 1 < len(blocks) and blocks[at + 1].startswith("\u2014 ") and not blocks[at].startswith("\u2014 "):
            try:
                yield note(f"{blocks[at]}\n\n{blocks[at + 1]}\n")
            except Rejected:
                pass
            at += 2
        else:
            at += 1


# --- A log -----------------------------------------------------------------------------------------------------------


class Log:
    def __init__(self, keys, origin, external, heads):
        self.keys, self.origin = keys, origin
        self.size, self.hash, self.recorded, self.first = 0, ZEROES, 0, 1
        self.heads_by_size = {0: (ZEROES, 0)}
        self.notes, self.ids, self.manifested = {}, set(), {}
        self.rows, self.beyond = None, []
        self.proven, self.last_made = None, 0
        self.external, self.heads = [], heads
        for found in external:
            self.check_origin(found[0])
            if keys:
                verify_note(found[4], found[5], keys)
            self.external.append(found)

    def check_origin(self, origin):
        self.origin = origin if self.origin is None else self.origin
        require(origin == self.origin, "the note of another log")

    def behind(self, size, digest, recorded):
        self.size, self.hash, self.recorded, self.first = size, digest, recorded, size + 1
        self.heads_by_size = {size: (digest, recorded)}
        if size == 0:
            require(digest == ZEROES and recorded == 0, "an export from the first event with a previous hash or time")

    def event(self, seq, row_id, digest, payload):
        require(seq == self.size + 1, "an event is missing or out of place")
        require(hashlib.sha256(payload.encode()).hexdigest() == digest, "the payload was changed")
        found = record(payload)
        require(found["seq"] == seq, "seq differs from the row")
        require(row_id is None or row_id == found["id"], "id differs from the row")
        require(found["prev_hash"] == self.hash, "the link is broken")
        recorded = microseconds(found["recorded"])
        require(recorded >= self.recorded, "a recorded time before the previous one")
        require(found["id"] not in self.ids, "a duplicate id")
        self.ids.add(found["id"])
        self.size, self.hash, self.recorded = seq, digest, recorded
        self.heads_by_size[seq] = (digest, recorded)
        manifest = found.get("detail", {}).get("manifest_hash")
        if found["kind"] == "manifest_signature" and found.get("decision", "allowed") == "allowed" and is_hash(manifest):
            self.manifested[found["id"]] = (manifest, found.get("signer_id"), microseconds(found["time"]))

    def checkpoint(self, size, text):
        origin, covered, digest, made, body, signatures = note(text)
        require(covered == size, "a checkpoint was moved")
        self.check_origin(origin)
        if self.keys:
            verify_note(body, signatures, self.keys)
        require(size <= self.size, "the tail is missing")
        require(size in self.heads_by_size, "a checkpoint was moved")
        require(self.heads_by_size[size][0] == digest, "the log was replaced")
        require(made >= self.heads_by_size[size][1], "a checkpoint is older than its event")
        require(made + SKEW >= self.last_made, "a checkpoint is older than the one before")
        self.last_made = max(self.last_made, made)
        self.notes[size] = digest
        if self.keys:
            self.prove(size)

    def prove(self, size):
        if size >= self.first:
            self.proven = max(size, self.proven or 0)

    def manifest(self, row_id, digest, signature, signer, at):
        require(len(digest) == 32 and len(row_id) == 32, "a malformed row of manifest_signatures")
        microseconds(at)
        # The section on signers specifies validity periods; here all given keys are valid at any time.
        if self.keys:
            key = self.keys.get(signer)
            require(key is not None and len(signature) == 64 and ed25519(key, digest, signature), "a wrong manifest signature")
        self.rows = self.rows or {}
        parts = (row_id[:8], row_id[8:12], row_id[12:16], row_id[16:20], row_id[20:])
        self.rows["-".join(parts)] = (digest.hex(), signer, at)

    def end(self):
        for _, size, digest, made, _, _ in self.external:
            if size < self.first - 1:
                continue
            require(size <= self.size, "the tail is missing")
            require(self.heads_by_size[size] and self.heads_by_size[size][0] == digest, "the log was replaced")
            require(made >= self.heads_by_size[size][1], "a checkpoint is older than its event")
            require(size < self.first or self.notes.get(size) == digest, "a checkpoint is missing")
            if self.keys:
                self.prove(size)
        for size, digest in self.heads:
            if size < self.first - 1:
                continue
            require(size <= self.size, "the tail is missing")
            require(self.heads_by_size[size][0] == digest, "the log was replaced")
            self.prove(size)
        if self.rows is not None:
            require(set(self.rows) == set(self.manifested), "manifest signatures and events differ")
            for row_id, (digest, signer, at) in self.rows.items():
                event = self.manifested[row_id]
                require((digest, signer) == event[:2] and abs(microseconds(at) - event[2]) <= SKEW, "a manifest signature differs from its event")


# --- Exports and databases -------------------------------------------------------------------------------------------


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


MEMBERS = {
    "header": ["format", "created", "origin", "behind", "manifests"],
    "event": ["seq", "hash", "payload"],
    "checkpoint": ["size", "note"],
    "manifest_signature": ["id", "manifest_hash", "signature_b64", "signer_id", "signed_at"],
    "end": ["size", "hash", "lines", "sha256"],
}


def parse_line(text):
    """Parses a line: (kind, members)."""
    try:
        value = json.loads(text)
        written = compact(value)
        written.encode()
    except (ValueError, OverflowError, RecursionError):
        raise Rejected("a line is not JSON") from None
    require(isinstance(value, dict) and len(value) == 1 and written == text, "a line is not in compact form")
    ((kind, members),) = value.items()
    require(kind in MEMBERS and isinstance(members, dict) and list(members) == MEMBERS[kind], "a line with unexpected members")
    whole = {"seq", "size", "lines"}
    require(all(is_whole(members.get(name, 0), 2**64 - 1) for name in whole), "a member is not a number")
    require(all(is_hash(members.get(name, ZEROES)) for name in ("hash", "sha256", "manifest_hash")), "a member is not a hash")
    texts = ("format", "payload", "note", "signature_b64", "signer_id", "signed_at")
    require(all(isinstance(members.get(name, ""), str) for name in texts), "a member is not a string")
    require(kind != "manifest_signature" or is_id(members["id"]), "a member is not an id")
    return kind, members


def export(log, data):
    lines = data.split(b"\n")
    require(lines[-1] == b"" and len(lines) >= 3, "a truncated export")
    require(all(len(line) < 16 << 20 for line in lines), "a line is too long")
    try:
        texts = [line.decode() for line in lines[:-1]]
    except UnicodeDecodeError:
        raise Rejected("not UTF-8") from None
    kind, header = parse_line(texts[0])
    behind = header["behind"] if kind == "header" else None
    require(kind == "header" and header["format"] == "postern-audit/1", "not an export")
    microseconds(header["created"])
    require(header["origin"] is None or isinstance(header["origin"], str), "an invalid origin")
    require(isinstance(header["manifests"], bool), "an invalid manifests")
    require(isinstance(behind, dict) and list(behind) == ["size", "hash", "recorded"], "an invalid behind")
    require(is_whole(behind["size"], 2**64 - 1) and is_hash(behind["hash"]), "an invalid behind")
    log.behind(behind["size"], behind["hash"], microseconds(behind["recorded"]))
    require(not header["manifests"] or behind["size"] == 0, "manifest signatures in a partial export")
    log.rows = {} if header["manifests"] else None
    events_started, noted, digest = False, None, hashlib.sha256(lines[0] + b"\n")
    for place, text in enumerate(texts[1:], 1):
        kind, members = parse_line(text)
        if kind == "end":
            require(place == len(texts) - 1, "lines after the end")
            require((members["size"], members["hash"]) == (log.size, log.hash), "the end does not match the last event")
            require((members["lines"], members["sha256"]) == (place, digest.hexdigest()), "the end does not match the lines")
            log.end()
            return
        if kind == "event":
            require(noted is None or noted <= log.size, "a checkpoint was moved")
            events_started = True
            log.event(members["seq"], None, members["hash"], members["payload"])
        elif kind == "checkpoint":
            size = members["size"]
            require(size >= log.size and (noted is None or noted < size), "a checkpoint was moved")
            noted = size
            log.checkpoint(size, members["note"])
        elif kind == "manifest_signature":
            require(header["manifests"] and not events_started, "a manifest signature out of place")
            try:
                signature = base64.b64decode(members["signature_b64"], validate=True)
            except ValueError:
                raise Rejected("invalid Base64") from None
            require(base64.b64encode(signature).decode() == members["signature_b64"], "invalid Base64")
            row_id = members["id"].replace("-", "")
            digest_of = bytes.fromhex(members["manifest_hash"])
            log.manifest(row_id, digest_of, signature, members["signer_id"], members["signed_at"])
        else:
            raise Rejected("a second header")
        digest.update(lines[place] + b"\n")
    raise Rejected("no end line")


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
            raise Rejected("not UTF-8") from None
    for size, text in store.execute("SELECT size, note FROM audit_checkpoints ORDER BY size"):
        try:
            log.checkpoint(size, text.decode())
        except UnicodeDecodeError:
            raise Rejected("not UTF-8") from None
    log.end()


def verify(path, keys=None, notes="", heads=(), origin=None):
    """(accepted, proven, why)"""
    try:
        log = Log(keys or {}, origin, list(parse_notes(notes)), list(heads))
        with open(path, "rb") as file:
            data = file.read()
        if data.startswith(b"SQLite format 3\0"):
            database(log, path)
        else:
            export(log, data)
        return True, log.proven, None
    except Rejected as refused:
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
