#!/usr/bin/env python3
"""Runs the symbolic models of the handshake: `python3 crates/handshake/model/check.py VERIFPAL`.

`full.vp` and `light.vp` are the protocol. Each case below is one of them with a few edits, and one
group of questions with the answers that they must have. An edit gives the attacker something, asks
something else, or breaks the protocol; broken protocols must be found broken, or the questions
would prove nothing. An edit that no longer fits its model is an error.

An answer is Verifpal's: a letter for the kind of question (`c` confidentiality, `a` authentication), and 0 if no attack was found, 1 if one was. See SPEC.md, section 8.
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

FOLDER = pathlib.Path(__file__).parent
# Longest analysis of a case, in seconds: many times what the slowest takes on an idle machine.
LIMIT = 900


# ── Edits: (pattern, replacement, how often it must fit) ─────────────────────────────────────


def leak(initiator, responder, later=False):
    """Private values are given away: before the handshake, or in a phase after it."""
    given = "".join(
        f"principal {who}[\n\tleaks {what}\n]\n\n"
        for who, what in (("Initiator", initiator), ("Responder", responder))
        if what
    )
    if later:
        return (r"^queries\[", "phase[1]\n\n" + given + "queries[", 1)
    return (r"^// ── Init ──", given + "// ── Init ──", 1)


def ask(*questions):
    return (r"^queries\[.*?^\]", "queries[\n" + "".join(f"\t{q}\n" for q in questions) + "]", 1)


def weak(later):
    return "[weak from phase 1]" if later else "[weak]"


def x25519_broken(later=False):
    """A quantum computer: every X25519 private key from its public key, ephemeral ones too."""
    return (r"PUBKEY\((si|sr|ei|er)\)", rf"PUBKEY{weak(later)}(\1)", 4)


def ml_kem_broken(count, later=False):
    """Every ML-KEM shared secret from its ciphertext."""
    return (r"KEM_ENCAP\(", f"KEM_ENCAP{weak(later)}(", count)


FULL, LIGHT = "full", "light"
IN_FULL, IN_LIGHT = 3, 1  # encapsulations
PASSIVE = (r"attacker\[active\]", "attacker[passive]", 1)

SECRET = ask("confidentiality? a_psk", "confidentiality? b_psk")
TO_RESPONDER = ["authentication? Initiator -> Responder: conf"]
TO_INITIATOR = [
    "authentication? Responder -> Initiator: sealed_number",
    "authentication? Responder -> Initiator: ack",
]
# Each end says a word in the clear when it has installed the key: who knows it, knows that it did.
REACHED = ask("confidentiality? responder_done", "confidentiality? initiator_done")

# The responder is told the pair's mode on the attacker's wire instead of by the netmap: it may hear
# another, and must not finish with it.
MODE_TOLD = [
    (r"\tknows public pq_a\n(?=\tknows private sr)", "", 1),
    (r"\tknows public pq_a\n", "\tgenerates pq_a\n", 1),
    (r"(-> Responder: gei, [^\n]*)", r"\1, pq_a", 1),
    ask("authentication? Initiator -> Responder: pq_a"),
]

# ── Broken protocols ─────────────────────────────────────────────────────────────────────────

# The transcript is no longer the salt of the extractions, nor the associated data of the seals.
NO_TRANSCRIPT = [(r"HKDF\([ab]_h\d, ", "HKDF(nil, ", None), (r", [ab]_h[23]\)", ", nil)", None)]
# A secret is left out of the key schedule.
NO_STATIC_KEM = [(r", [ab]_ss[13]\)", ", nil)", 4)]
NO_EPHEMERAL_KEM = [(r", [ab]_ss2\)", ", nil)", 2)]
NO_EPHEMERAL_DH = [(r"DH_KEX\((gei, er|ger, ei)\), ", "nil, ", 2)]
NO_STATIC_DH = [
    (r"DH_KEX\((gsr, ei|gei, sr)\)", "nil", 2),
    (r"DH_KEX\((gsr, si|gsi, sr)\)", "nil", 2),
    (r"DH_KEX\((gsi, er|ger, si)\)", "nil", 2),
]
NO_CHAIN = [(r"CONCAT\(([ab]_ck2), chain\)", r"CONCAT(\1, nil)", 2)]
# The responder's part of the key does not change from one handshake to the next.
SAME_ANSWER = [(r"generates er, r2, r3", "knows private er, r2, r3", 1)]

# With the responder's static X25519 key known, the search through the whole model does not end. So the two
# secrets that this key gives away are left out, and so is all that comes after Conf.
KNOWN_STATIC_DH = [
    (r"DH_KEX\((gsr, ei|gei, sr)\)", "nil", 2),
    (r"DH_KEX\((gsr, si|gsi, sr)\)", "nil", 2),
]
UP_TO_CONF = (r"^// ── Ack.*?(?=^queries\[)", "", 1)
UP_TO_INSTALL = (r"\tack = AEAD_ENC.*?(?=^queries\[)", "]\n\n", 1)

CASES = [
    # name, model, sessions, edits, answers
    ("an attacker on the path, two handshakes at once", FULL, 2, [], "c0c0a0a0a0"),
    ("an attacker who only listens", FULL, 2, [PASSIVE, SECRET], "c0c0"),
    ("X25519 broken", FULL, 1, [x25519_broken()], "c0c0a0a0a0"),
    ("ML-KEM broken", FULL, 1, [ml_kem_broken(IN_FULL)], "c0c0a0a0a0"),
    ("static keys leaked later", FULL, 1, [leak("si, dki", "sr, dkr", later=True), SECRET], "c0c0"),
    ("static keys leaked and X25519 broken later", FULL, 1,
     [x25519_broken(later=True), leak("si, dki", "sr, dkr", later=True), SECRET], "c0c0"),
    ("static keys leaked and ML-KEM broken later", FULL, 1,
     [ml_kem_broken(IN_FULL, later=True), leak("si, dki", "sr, dkr", later=True), SECRET], "c0c0"),
    ("the initiator's static keys leaked before", FULL, 1,
     [leak("si, dki", ""), ask("confidentiality? a_psk", *TO_INITIATOR)], "c0a0a0"),
    ("the responder's static ML-KEM key leaked before", FULL, 1, [leak("", "dkr"), ask(*TO_RESPONDER)], "a0"),
    ("what the responder's static X25519 key gives away left out", FULL, 1,
     [*KNOWN_STATIC_DH, UP_TO_CONF, ask("confidentiality? b_psk")], "c0"),
    ("what the responder's static X25519 key gives away left out", FULL, 1,
     [*KNOWN_STATIC_DH, UP_TO_INSTALL, ask(*TO_RESPONDER)], "a0"),
    ("the initiator's static keys leaked before, X25519 broken", FULL, 1,
     [x25519_broken(), leak("dki", ""), ask("confidentiality? a_psk", *TO_INITIATOR)], "c0a0a0"),
    ("the ends are told different modes", FULL, 1, MODE_TOLD, "a0"),

    ("an attacker on the path, two handshakes at once", LIGHT, 2, [], "c0c0a0a0a0"),
    ("an attacker who only listens", LIGHT, 2, [PASSIVE, SECRET], "c0c0"),
    ("X25519 broken", LIGHT, 1, [x25519_broken()], "c0c0a0a0a0"),
    ("ML-KEM broken", LIGHT, 1, [ml_kem_broken(IN_LIGHT)], "c0c0a0a0a0"),
    ("the initiator's static key leaked before", LIGHT, 1,
     [leak("si", ""), ask("confidentiality? a_psk", *TO_INITIATOR)], "c0a0a0"),
    ("the responder's static key leaked before", LIGHT, 1,
     [leak("", "sr"), ask("confidentiality? b_psk", *TO_RESPONDER)], "c0a0"),
    ("the chain leaked before", LIGHT, 1, [leak("chain", "")], "c0c0a0a0a0"),
    ("static keys and chain leaked later", LIGHT, 1, [leak("si, chain", "sr", later=True), SECRET], "c0c0"),
    ("static keys and chain leaked and X25519 broken later", LIGHT, 1,
     [x25519_broken(later=True), leak("si, chain", "sr", later=True), SECRET], "c0c0"),
    ("static keys and chain leaked and ML-KEM broken later", LIGHT, 1,
     [ml_kem_broken(IN_LIGHT, later=True), leak("si, chain", "sr", later=True), SECRET], "c0c0"),
    ("static keys and chain leaked before, then it only listens", LIGHT, 1,
     [PASSIVE, leak("si, chain", "sr"), ask("confidentiality? b_psk", "confidentiality? b_chain")], "c0c0"),
    ("the ends are told different modes", LIGHT, 1, MODE_TOLD, "a0"),

    # What the attacker may do if nothing else holds: the questions above can be answered with yes.
    ("both ends get to the end", FULL, 1, [REACHED], "c1c1"),
    ("both ends get to the end", LIGHT, 1, [REACHED], "c1c1"),
    ("X25519 and ML-KEM broken", FULL, 1, [x25519_broken(), ml_kem_broken(IN_FULL)], "c1c1a1a1a1"),
    ("X25519 and ML-KEM broken", LIGHT, 1, [x25519_broken(), ml_kem_broken(IN_LIGHT), leak("chain", "")], "c1c1a1a1a1"),
    ("X25519 broken and the chain known", LIGHT, 1, [x25519_broken(), leak("chain", "")], "c1c1a1a1a1"),

    # Broken protocols.
    ("without the transcript, told different modes", FULL, 1, [*NO_TRANSCRIPT, *MODE_TOLD], "a1"),
    ("without the transcript, told different modes", LIGHT, 1, [*NO_TRANSCRIPT, *MODE_TOLD], "a1"),
    ("without static ML-KEM, X25519 broken", FULL, 1, [*NO_STATIC_KEM, x25519_broken()], "c1c1a1a1a1"),
    ("without static X25519, ML-KEM broken", FULL, 1,
     [*NO_STATIC_DH, ml_kem_broken(IN_FULL), ask(*TO_RESPONDER)], "a1"),
    ("without ephemeral ML-KEM, leaked and X25519 broken later", FULL, 1,
     [*NO_EPHEMERAL_KEM, x25519_broken(later=True), leak("si, dki", "sr, dkr", later=True), SECRET], "c1c1"),
    ("without ephemeral X25519, leaked and ML-KEM broken later", FULL, 1,
     [*NO_EPHEMERAL_DH, ml_kem_broken(IN_FULL, later=True), leak("si, dki", "sr, dkr", later=True), SECRET], "c1c1"),
    ("without the chain, X25519 broken", LIGHT, 1, [*NO_CHAIN, x25519_broken()], "c1c1a1a1a1"),
    ("the responder's part is always the same", FULL, 2, [*SAME_ANSWER, ask(*TO_RESPONDER)], "a1"),
]


def edited(case):
    name, model, _, edits, _ = case
    text = (FOLDER / f"{model}.vp").read_text()
    for pattern, replacement, times in edits:
        text, fits = re.subn(pattern, replacement, text, flags=re.MULTILINE | re.DOTALL)
        if fits == 0 or times not in (None, fits):
            sys.exit(f"{model}, {name}: {pattern} fits {fits} times, must {times or 'fit'}")
    if "from phase 1" in text and "phase[1]" not in text:
        sys.exit(f"{model}, {name}: there is no phase 1")
    return text


def run(verifpal, folder, number):
    case = CASES[number]
    file = folder / f"case{number}.vp"
    command = [verifpal, "verify", "--quiet", "--result-code", "--color", "never"]
    command += ["--sessions", str(case[2]), str(file)]
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return "no answer in time", LIMIT, ""
    answer = (done.stdout.strip().splitlines() or [""])[-1]
    return answer, time.monotonic() - began, done.stdout + done.stderr


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: check.py VERIFPAL [PART OF A CASE'S NAME]")
    verifpal, wanted = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    numbers = [number for number, case in enumerate(CASES) if wanted in f"{case[1]}: {case[0]}"]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            (pathlib.Path(folder) / f"case{number}.vp").write_text(edited(CASES[number]))
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            results = pool.map(lambda number: run(verifpal, pathlib.Path(folder), number), numbers)
            for number, (answer, seconds, said) in zip(numbers, results):
                name, model, sessions, _, expected = CASES[number]
                right = answer == expected
                wrong += not right
                verdict = answer if right else f"{answer}, must be {expected}"
                print(f"{'✔' if right else '✘'} {model}: {name}, sessions {sessions}: {verdict} ({seconds:.1f} s)", flush=True)
                if not right:
                    print(said)
    print(f"{len(numbers) - wrong} of {len(numbers)} models answer as they must")
    return 1 if wrong or not numbers else 0


if __name__ == "__main__":
    sys.exit(main())
