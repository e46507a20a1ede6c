"""Compares the results of Postern and of verify_log.py, which is written from docs/formats.md, over many logs.

usage: compare.py POSTERN STORE NOTES SIGNERS NAME=BASE64

Prints how many logs both accept and how many both reject, and fails on the first log with different results.
"""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import verify_log  # noqa: E402
from mutate import edit, end, places, with_members, without  # noqa: E402

POSTERN, STORE, NOTES, SIGNERS, KEY = sys.argv[1:6]
KEYS = {KEY.partition("=")[0]: verify_log.base64.b64decode(KEY.partition("=")[2])}
RANDOM = random.Random(20260101)
FOLDER = tempfile.mkdtemp()
COUNTS = {True: 0, False: 0}


def run_postern(path, signed, notes, head):
    args = [POSTERN, "audit"]
    args += ["replay", path] if path.endswith(".jsonl") else ["verify", "--store", f"sqlite:{path}"]
    args += ["--format", "json"]
    args += ["--signers", SIGNERS] if signed else []
    args += ["--checkpoints", notes] if notes else []
    args += ["--head", head] if head else []
    done = subprocess.run(args, capture_output=True, text=True)
    if done.returncode == 3:
        return False, None, done.stderr
    report = json.loads(done.stdout)
    assert done.returncode in (0, 2, 4), done
    return report["whole"], report["proven"] if report["whole"] else None, report["problems"]


def run_verifier(path, signed, notes, head):
    text = open(notes, encoding="utf-8").read() if notes else ""
    size, _, digest = (head or "").partition(":")
    return verify_log.verify(path, KEYS if signed else {}, text, [(int(size), digest)] if head else [])


def compare(name, path, expected=None, signed=True, notes=None, head=None):
    postern, verifier = run_postern(path, signed, notes, head), run_verifier(path, signed, notes, head)
    if postern[:2] != verifier[:2] or expected not in (None, postern[0]):
        print(f"{name}: signed={signed} notes={notes} head={head} expected={expected}\n  postern    {postern}\n  verify_log {verifier}")
        print(f"  the log is {path}")
        sys.exit(1)
    COUNTS[postern[0]] += 1


# --- Exports -------------------------------------------------------------------------------------------------------


def write(text, name="log.jsonl"):
    path = os.path.join(FOLDER, name)
    with open(path, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return path


def payload_edits():
    nested = 1
    for _ in range(124):
        nested = [nested]
    for name, change in {
        "status": with_members(status=70000),
        "status_null": with_members(status=None),
        "status_true": with_members(status=True),
        "status_real": with_members(status=200.5),
        "kind": with_members(kind="requests"),
        "unknown": with_members(sequel=1),
        "decision": with_members(decision="Denied"),
        "empty_detail": with_members(detail={}),
        "detail_list": with_members(detail=[1]),
        "detail": with_members(detail={"a": [1, -2.5, 1e300, 1e21, 1e-7, 123456789012345680000, None, True, "é\u2028\x7f"]}),
        "detail_order": with_members(detail={"\ue000": 1, "\U0001f600": 2}),
        "detail_deep": with_members(detail={"a": nested}),
        "detail_deeper": with_members(detail={"a": [nested]}),
        "detail_deepest": with_members(detail={"a": [[nested]]}),
        "large_latency": with_members(latency_us=9007199254740994),
        "larger_latency": with_members(latency_us=2**64),
        "id": with_members(id="01890A5D-AC96-774B-BCCE-B302099A8058"),
        "short_id": with_members(id="01890a5dac96774bbcceb302099a8058"),
        "time": with_members(time="2026-02-30T00:00:00.000000Z"),
        "leap_day": with_members(time="2028-02-29T00:00:00.000000Z"),
        "leap_second": with_members(time="2026-01-01T00:00:60.000000Z"),
        "old_time": with_members(time="1969-12-31T23:59:59.000000Z"),
        "year_0": with_members(time="0000-01-01T00:00:00.000000Z"),
        "short_time": with_members(time="2026-01-01T00:00:00Z"),
        "offset": with_members(time="2026-01-01T00:00:00.000000+00:00"),
        "digits": with_members(time="２026-01-01T00:00:00.000000Z"),
        "seq": with_members(seq=3),
        "seq_text": with_members(seq="4"),
        "hash": with_members(prev_hash="AB" * 32),
        "subject": with_members(subject=7),
        "nul": with_members(subject="\0"),
        "list": lambda payload: [json.loads(payload)],
        "space": lambda payload: payload.replace(":", ": ", 1),
        "twice": lambda payload: payload[:-1] + ',"time":"2026-01-01T00:00:00.000000Z"}',
        "escape": lambda payload: payload.replace("edge", "\\u0065dge"),
        "surrogate": lambda payload: payload.replace("edge-1", "\\ud800"),
        "float": lambda payload: payload.replace('"kind"', '"detail":{"a":1.0},"kind"'),
        "float_detail": lambda payload: payload.replace('"gateway"', '"detail":{"a":1.0},"gateway"'),
        "minus_zero": lambda payload: payload.replace('"gateway"', '"detail":{"a":-0},"gateway"'),
        "huge": lambda payload: payload.replace('"gateway"', '"detail":{"a":1e400},"gateway"'),
        "nan": lambda payload: payload.replace('"gateway"', '"detail":{"a":NaN},"gateway"'),
        "long_number": lambda payload: payload.replace('"gateway"', '"detail":{"a":9007199254740993},"gateway"'),
        "even_number": lambda payload: payload.replace('"gateway"', '"detail":{"a":9007199254740994},"gateway"'),
    }.items():
        yield name, change


def exports(whole):
    lines = whole.splitlines()[:-1]
    events, notes = places(lines, "event"), places(lines, "checkpoint")
    compare("unchanged", write(whole), True, notes=NOTES)
    compare("unchanged, new end line", write(end(lines)), True)
    # Payloads with one change. No checkpoint covers them, so only their form matters.
    bare = without(lines, ["checkpoint", "manifest_signature"])
    bare[0] = bare[0].replace('"manifests":true', '"manifests":false')
    for name, change in payload_edits():
        for relink in (False, True):
            path = write(end(edit(bare, places(bare, "event")[-1], change, relink)))
            compare(f"payload {name}", path, signed=False)
    compare("relinked", write(end(edit(bare, events[2] - 1, with_members(subject="eve"), True))), True, signed=False)
    path = write(end(edit(lines, events[2], with_members(subject="eve"), True)))
    compare("rewritten", path, False)
    compare("rewritten", path, False, signed=False)
    for name, changed in {
        "event removed": lines[: events[4]] + lines[events[4] + 1 :],
        "events swapped": lines[: events[4]] + [lines[events[4] + 1], lines[events[4]]] + lines[events[4] + 2 :],
        "event duplicated": lines[: events[4]] + [lines[events[4]]] + lines[events[4] :],
        "truncated": lines[: events[-1]],
        "truncated, checkpoint kept": lines[: events[-3]] + [lines[notes[-1]]],
        "checkpoint removed": without(lines, ["checkpoint"]),
        "checkpoint late": lines[: notes[0]] + [lines[notes[0] + 1], lines[notes[0]]] + lines[notes[0] + 2 :],
        "checkpoint early": lines[: notes[0] - 1] + [lines[notes[0]], lines[notes[0] - 1]] + lines[notes[0] + 1 :],
        "checkpoint duplicated": lines[: notes[0]] + [lines[notes[0]]] + lines[notes[0] :],
        "manifests removed": without(lines, ["manifest_signature"]),
        "manifest late": without(lines, ["manifest_signature"]) + [lines[places(lines, "manifest_signature")[0]]],
        "second header": lines[:3] + [lines[0]] + lines[3:],
        "no header": lines[1:],
    }.items():
        for notes_file in (None, NOTES):
            compare(name, write(end(changed)), notes=notes_file)
        compare(name, write(end(changed)), signed=False)
    for change in (
        ('"manifests":true', '"manifests":false'),
        ('"size":0', '"size":1'),
        ('"hash":"00', '"hash":"01'),
        ("1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.000001Z"),
        ("postern-audit/1", "postern-audit/2"),
        ('"origin":"postern', '"origin":"other'),
        ('{"format"', '{"format": '),
        ('"created":"', '"created":"x'),
    ):
        compare(f"header {change}", write(end([lines[0].replace(*change, 1)] + lines[1:])))
    head = json.loads(lines[events[9]])["event"]
    for text, accepted in ((f"10:{head['hash']}", True), (f"11:{head['hash']}", False), (f"99:{head['hash']}", False)):
        compare(f"head {text}", write(whole), accepted, head=text)
    for note_change in (
        ("\\ntime 2", "\\ntime 1"),
        ("\\ntime ", "\\ntime  "),
        ("postern.example/audit\\n", "postern.example/audit \\n"),
        ("\\n\\n\u2014 ", "\\nmore\\n\\n\u2014 "),
        ("\\n\\n\u2014 ", "\\n\\n\u2014 witness AAAAAAAA\\n\u2014 "),
        ("\\n\\n\u2014 kernel", "\\n\\n\u2014 kermel"),
        ("\\n\\n\u2014 kernel", "\\n\\n\u2014 ker+nel"),
        ("\\n\\n", "\\n\\n\\n"),
    ):
        at = notes[0]
        changed = lines[:at] + [lines[at].replace(*note_change, 1)] + lines[at + 1 :]
        compare(f"note {note_change}", write(end(changed)))
        compare(f"note {note_change}", write(end(changed)), signed=False)
    for round in range(250):
        changed = list(lines)
        at = RANDOM.randrange(len(changed))
        line = changed[at]
        place = RANDOM.randrange(len(line))
        new = RANDOM.choice('"\\,:{}[]0123456789.eE+-nuAa_ /\u00e9')
        kind = RANDOM.randrange(3)
        changed[at] = line[:place] + new * (kind > 0) + line[place + (kind < 2) :]
        again = round % 2 == 0
        text = end(changed) if again else "\n".join(changed) + "\n" + whole.splitlines()[-1] + "\n"
        compare(f"random {round}: line {at}, place {place}, {new!r}", write(text), signed=round % 5 > 0)


# --- Databases -------------------------------------------------------------------------------------------------------


def databases():
    compare("unchanged", STORE, True, notes=NOTES)
    count = sqlite3.connect(STORE).execute("SELECT max(seq) FROM audit_events").fetchone()[0]
    for statement in (
        "DELETE FROM audit_events WHERE seq = 7",
        f"DELETE FROM audit_events WHERE seq > {count - 5}",
        "DELETE FROM audit_events; DELETE FROM audit_checkpoints; DELETE FROM manifest_signatures",
        "DELETE FROM audit_checkpoints",
        "DELETE FROM audit_checkpoints WHERE size = 30",
        "DELETE FROM manifest_signatures",
        "UPDATE audit_events SET payload = replace(payload, 'edge-1', 'edge-2') WHERE seq = 9",
        "UPDATE audit_events SET id = randomblob(16) WHERE seq = 9",
        "UPDATE audit_events SET hash = randomblob(32) WHERE seq = 9",
        "UPDATE audit_events SET seq = 1000 WHERE seq = 9",
        "UPDATE audit_events SET seq = seq + 1000; UPDATE audit_events SET seq = seq - 999",
        "CREATE TABLE anew AS SELECT seq, id, payload, hash FROM audit_events; DROP TABLE audit_events; "
        "ALTER TABLE anew RENAME TO audit_events; "
        "INSERT INTO audit_events VALUES (NULL, randomblob(16), '{}', randomblob(32))",
        "UPDATE audit_checkpoints SET size = 29 WHERE size = 30",
        "UPDATE audit_checkpoints SET note = replace(note, 'kernel', 'kermel') WHERE size = 30",
        "UPDATE audit_checkpoints SET note = (SELECT note FROM audit_checkpoints WHERE size > 30) WHERE size = 30",
        "UPDATE manifest_signatures SET signer_id = 'other'",
        "UPDATE manifest_signatures SET signature = randomblob(64)",
        "UPDATE manifest_signatures SET manifest_hash = randomblob(32)",
        "UPDATE manifest_signatures SET signed_at = '2020-01-01T00:00:00.000000Z'",
        "UPDATE manifest_signatures SET signed_at = substr(signed_at, 1, 19) || 'Z'",
        "UPDATE manifest_signatures SET id = randomblob(16)",
        "VACUUM",
    ):
        path = os.path.join(FOLDER, "log.db")
        shutil.copy(STORE, path)
        with sqlite3.connect(path, isolation_level=None) as store:
            store.executescript(statement)
        store.close()
        for signed in (True, False):
            for notes_file in (None, NOTES):
                compare(statement, path, signed=signed, notes=notes_file)


databases()
export = subprocess.run([POSTERN, "audit", "export", "--store", f"sqlite:{STORE}"], capture_output=True, check=True)
exports(export.stdout.decode())
part = [POSTERN, "audit", "export", "--store", f"sqlite:{STORE}", "--from-seq"]
for first in ("11", "31"):
    text = subprocess.run([*part, first], capture_output=True, check=True).stdout
    compare(f"the export from {first}", write(text), True)
    compare(f"the export from {first}", write(text), True, notes=NOTES)
shutil.rmtree(FOLDER)
print(f"{COUNTS[True]} accepted, {COUNTS[False]} rejected by both")
