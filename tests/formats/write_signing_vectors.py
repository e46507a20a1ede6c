"""Writes docs/vectors/signing.json: signers, rotation statements, manifests and reserved payloads.

It shares no code with Postern: python3-cryptography generates the keys and signatures, and this file implements the
canonical form. Run it from the root of the repository after a change of docs/formats.md.
"""

import base64
import hashlib
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ROOT = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="


def key(number):
    return Ed25519PrivateKey.from_private_bytes(bytes([number] * 32))


def public(number):
    raw = key(number).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return "ed25519:" + base64.b64encode(raw).decode()


def signature(number, message):
    return base64.b64encode(key(number).sign(message)).decode()


def canonical(value):
    """RFC 8785, for objects of strings and small integers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


SIGNERS = {
    # id: key, uses (None: all), status, more lines
    "kernel-2026": (1, ["payload"], "active", ""),
    "manifests-2026": (2, ["manifest"], "active", ""),
    "log-2026": (3, ["checkpoint"], "active", ""),
    "root-2026": (4, ["rotation"], "active", ""),
    "kernel-2027": (5, ["payload"], "active", ""),
    "root-2027": (6, ["rotation"], "active", ""),
    "old-style": (7, None, "active", ""),
    "ended": (8, ["payload"], "active", "valid_from = 2026-01-01T00:00:00Z\nvalid_until = 2026-06-01T00:00:00Z\n"),
    "retired": (9, ["payload"], "retired", "retired_at = 2026-06-01T00:00:00.000001Z\n"),
}


def registry():
    text = "# Signers of the vectors.\n"
    for name, (number, uses, status, more) in SIGNERS.items():
        text += f'\n[signers.{name}]\npublic_key = "{public(number)}"\nstatus = "{status}"\n'
        if uses is not None:
            text += "uses = [" + ", ".join(f'"{use}"' for use in uses) + "]\n"
        text += more
    return text


def number(name):
    return SIGNERS[name][0]


def recorded():
    message = b"hello"
    out = []

    def case(signer, use, made, verdict, by=None, wrong=False):
        made_of = b"other" if wrong else message
        out.append({
            "signer_id": signer, "use": use, "message_b64": base64.b64encode(message).decode(),
            "signature_b64": signature(by or number(signer) if signer in SIGNERS else 1, made_of),
            "made": made, "verdict": verdict,
        })

    june = "2026-06-01T00:00:00.000000Z"
    case("kernel-2026", "payload", june, "counts")
    for use in ["manifest", "checkpoint", "rotation"]:
        case("kernel-2026", use, june, "signer_use")
        case("old-style", use, june, "counts")
    case("old-style", "payload", june, "counts")
    case("kernel-2026", "payload", june, "signature_wrong", wrong=True)
    case("kernel-2026", "payload", june, "signature_wrong", by=2)
    case("nobody", "payload", june, "signer_unknown")
    case("ended", "payload", "2025-12-31T23:59:59.999999Z", "signer_not_yet_valid")
    case("ended", "payload", "2026-01-01T00:00:00.000000Z", "counts")
    case("ended", "payload", "2026-05-31T23:59:59.999999Z", "counts")
    case("ended", "payload", june, "signer_expired")
    case("retired", "payload", june, "counts")
    case("retired", "payload", "2026-06-01T00:00:00.000001Z", "signer_retired")
    return out


def manifests():
    out = []
    for text in ['{"b": [1, 2.0], "a": "\\u20ac"}', '{ "name":"x", "version":1, "files":{} }']:
        value = json.loads(text)
        form = canonical(json.loads(json.dumps(value).replace("2.0", "2")))
        digest = hashlib.sha256(form.encode()).digest()
        out.append({
            "manifest": text, "canonical": form, "manifest_hash": digest.hex(), "signer_id": "manifests-2026",
            "signature_b64": signature(2, digest),
        })
    return out


def rotations():
    def statement(old, new, **more):
        return {"old": old, "new": new, "new_key": public(number(new)), "time": "2026-06-01T00:00:00Z"} | more

    def signed(text, **roles):
        document = {"statement": text}
        for role, signer in roles.items():
            by = number(signer) if signer in SIGNERS else 1
            document[role] = {"signer_id": signer, "signature_b64": signature(by, text.encode())}
        return document

    kernel = statement("kernel-2026", "kernel-2027")
    root = statement("root-2026", "root-2027")
    from_old = statement("old-style", "kernel-2027")
    out = []

    def case(name, counts, text, **roles):
        out.append({"name": name, "counts": counts, "document": signed(text, **roles)})

    case("a signer for rotations vouches", True, canonical(kernel), by="root-2026")
    case("signers for rotations follow each other", True, canonical(root), old="root-2026", new="root-2027")
    case("one with every use is followed", True, canonical(from_old), old="old-style")
    case("nobody vouches", False, canonical(kernel))
    case("the old one may not vouch", False, canonical(kernel), old="kernel-2026")
    case("the new one alone", False, canonical(root), new="root-2027")
    case("the new one must vouch too", False, canonical(root), old="root-2026")
    case("the new one vouches for itself", False, canonical(root), by="root-2027", new="root-2027")
    case("another key of the new one", False, canonical(kernel | {"new_key": public(9)}), by="root-2026")
    case("a member more", False, canonical(kernel | {"more": "x"}), by="root-2026")
    case("a member less", False, canonical({k: v for k, v in kernel.items() if k != "time"}), by="root-2026")
    case("not canonical", False, json.dumps(kernel), by="root-2026")
    case("a time with an offset", False, canonical(kernel | {"time": "2026-06-01T00:00:00+00:00"}), by="root-2026")
    case("one follows itself", False, canonical(statement("kernel-2027", "kernel-2027")), by="root-2026")
    wrong = signed(canonical(kernel), by="root-2026")
    wrong["by"]["signature_b64"] = signature(4, b"other")
    out.append({"name": "a wrong signature", "counts": False, "document": wrong})
    return out


def reserved():
    note = f"postern.example.com/audit\n7\n{ROOT}\n"
    statement = canonical({"old": "a", "new": "b", "new_key": "ed25519:x", "time": "2026-06-01T00:00:00Z"})
    cases = [
        (b"", []), (b"hello", []), (b"GET\n/orders/7\n1700000000\n", []), (b'{"old":"a","new":"b"}', []),
        (b"thirty-two bytes, as a digest is", ["manifest"]),
        (note.encode(), ["checkpoint"]),
        (note.replace("\n", "\r\n").encode(), ["checkpoint"]),
        (f"\n origin \n+007\n{ROOT.rstrip('=')}".encode(), ["checkpoint"]),
        (f"cosignature/v1\ntime 1\n{note}".encode(), ["checkpoint"]),
        (note.encode("utf-16"), ["checkpoint"]),
        (statement.encode(), ["rotation"]),
        (statement.replace("new_key", "\\u006eew_key").encode(), ["rotation"]),
        (statement.replace("old", "OLD").encode("utf-16-be"), ["rotation"]),
        (b"postern policy manifest v1\n{}", ["manifest"]),
    ]
    return [{"payload_b64": base64.b64encode(payload).decode(), "could_be": could} for payload, could in cases]


def refused():
    one = f'[signers.a]\npublic_key = "{public(1)}"\nstatus = "active"\n'
    return [
        one + "uses = []\n",
        one + 'uses = ["payload", "payload"]\n',
        one + 'uses = ["sign"]\n',
        one + "retired_at = 2026-01-01T00:00:00Z\n",
        one.replace("active", "retired"),
        one + "valid_until = 2026-01-01T00:00:00+01:00\n",
        one + 'colour = "red"\n',
        one + 'uses = ["payload"]\n' + one.replace("signers.a", "signers.b") + 'uses = ["checkpoint"]\n',
    ]


document = {
    "registry": registry(), "registries_refused": refused(), "signatures": recorded(), "manifests": manifests(),
    "rotations": rotations(), "reserved": reserved(),
}
with open("docs/vectors/signing.json", "w", encoding="utf-8") as file:
    json.dump(document, file, indent=1, ensure_ascii=True)
    file.write("\n")
