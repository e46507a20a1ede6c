"""Writes the test vectors of docs/vectors/audit from a log written by Postern.

usage: write_vectors.py WHOLE.jsonl NOTES SIGNERS FOLDER
"""

import json
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from mutate import edit, end, places, with_members, without  # noqa: E402

WHOLE, NOTES, SIGNERS, FOLDER = sys.argv[1:5]
CASES = []
with open(WHOLE, encoding="utf-8") as file:
    TEXT = file.read()
LINES = TEXT.splitlines()[:-1]
EVENTS, CHECKPOINTS = places(LINES, "event"), places(LINES, "checkpoint")
LAST = json.loads(LINES[CHECKPOINTS[-1]])["checkpoint"]["size"]


def write(name, text):
    with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as file:
        file.write(text)


def case(log, accepted, proven=None, code=None, signers=True, checkpoints=False, head=None):
    CASES.append(
        {
            "log": log,
            "signers": signers,
            "checkpoints": checkpoints,
            "head": head,
            "accepted": accepted,
            "proven": proven,
            "code": code,
        }
    )


def both(name, lines, code, proven=None):
    """Rejected with signers and without."""
    write(name, end(lines))
    case(name, False, proven, code)
    case(name, False, None, code, signers=False)


shutil.copy(NOTES, os.path.join(FOLDER, "checkpoints.notes"))
shutil.copy(SIGNERS, os.path.join(FOLDER, "signers.toml"))
write("whole.jsonl", TEXT)
case("whole.jsonl", True, LAST)
case("whole.jsonl", True, LAST, checkpoints=True)
case("whole.jsonl", True, None, signers=False)
EVENT = json.loads(LINES[EVENTS[8]])["event"]
case("whole.jsonl", True, 9, signers=False, head=f"9:{EVENT['hash']}")
case("whole.jsonl", False, LAST, "log_replaced", head=f"8:{EVENT['hash']}")

# The events from 31 on, right after a checkpoint.
AT = EVENTS[30]
BEFORE = json.loads(LINES[EVENTS[29]])["event"]
HEADER = json.loads(LINES[0])["header"]
HEADER["behind"] = {
    "size": 30,
    "hash": BEFORE["hash"],
    "recorded": json.loads(BEFORE["payload"])["recorded"],
}
HEADER["manifests"] = False
PART = [json.dumps({"header": HEADER}, separators=(",", ":"))] + LINES[AT:]
write("part.jsonl", end(PART))
case("part.jsonl", True, LAST, checkpoints=True)
case("part.jsonl", True, None, signers=False)

# Rewritten from event 5 on, with valid hashes and without checkpoints: only an external checkpoint detects it.
BARE = without(LINES, ["checkpoint"])
write("rewritten.jsonl", end(edit(BARE, places(BARE, "event")[4], with_members(subject="eve"), True)))
case("rewritten.jsonl", True, None)
case("rewritten.jsonl", False, None, "log_replaced", checkpoints=True)
write("cut.jsonl", end(LINES[: CHECKPOINTS[0] - 3]).replace('"manifests":true', '"manifests":false'))
CUT = [LINES[0].replace('"manifests":true', '"manifests":false')]
CUT += without(LINES[1 : CHECKPOINTS[0] - 3], ["manifest_signature"])
write("cut.jsonl", end(CUT))
case("cut.jsonl", True, None)
case("cut.jsonl", False, None, "tail_missing", checkpoints=True)

both("payload_changed.jsonl", [line.replace("edge-1", "edge-2") if at == EVENTS[6] else line for at, line in enumerate(LINES)], "payload_changed")
both("event_missing.jsonl", LINES[: EVENTS[6]] + LINES[EVENTS[6] + 1 :], "event_missing")
both("link_broken.jsonl", edit(LINES, EVENTS[6], with_members(subject="eve")), "link_broken")
both("not_canonical.jsonl", edit(LINES, EVENTS[6], lambda text: text.replace(":", ": ", 1)), "payload_malformed")
both("unknown_member.jsonl", edit(LINES, EVENTS[6], with_members(zone="eu")), "payload_malformed")
NOTE = LINES[CHECKPOINTS[0]]
BEGIN = LINES[: CHECKPOINTS[0]]
both("checkpoint_moved.jsonl", BEGIN[:-1] + [NOTE, BEGIN[-1]] + LINES[CHECKPOINTS[0] + 1 :], "checkpoint_moved")
write("checkpoint_forged.jsonl", end(BEGIN + [NOTE.replace("\\ntime 2", "\\ntime 3", 1)] + LINES[CHECKPOINTS[0] + 1 :]))
case("checkpoint_forged.jsonl", False, LAST, "checkpoint_signature")
both("another_beginning.jsonl", [LINES[0].replace('"hash":"00', '"hash":"01', 1)] + LINES[1:], "line_malformed")
write("last_line.jsonl", TEXT.replace('{"end":{', '{"end": {'))
case("last_line.jsonl", False, LAST, "line_malformed")
write("expected.json", "[\n" + ",\n".join("  " + json.dumps(entry) for entry in CASES) + "\n]\n")
