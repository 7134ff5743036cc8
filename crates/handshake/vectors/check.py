#!/usr/bin/env python3
"""A second implementation of SPEC.md, written from it, that checks handshake-v1.json and ml-kem-768.json.

Standard library only, so that it runs anywhere: `python3 crates/handshake/vectors/check.py`.
Slow and not constant-time: for checking, never for use.
"""

import hashlib
import hmac
import json
import pathlib
import struct
import sys

# ── X25519 (RFC 7748 §5) ─────────────────────────────────────────────────────────────────────

P = 2**255 - 19


def x25519(scalar, point):
    k = bytearray(scalar)
    k[0] &= 248
    k[31] = k[31] & 127 | 64
    k = int.from_bytes(k, "little")
    x1 = int.from_bytes(point, "little") & (2**255 - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % P, b * b % P, d * a % P, c * b % P
        e = aa - bb
        x3, z3 = pow(da + cb, 2, P), x1 * pow(da - cb, 2, P) % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, x3, z2, z3 = x3, x2, z3, z2
    out = (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")
    assert any(out), "low order"
    return out


def public(scalar):
    return x25519(scalar, bytes([9]) + bytes(31))


# ── ChaCha20-Poly1305 (RFC 8439) ─────────────────────────────────────────────────────────────


def chacha_block(key, counter, nonce):
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + struct.pack("<I", counter) + nonce))
    w = state[:]

    def quarter(a, b, c, d):
        for x, y, z, r in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            w[x] = w[x] + w[y] & 0xFFFFFFFF
            w[z] ^= w[x]
            w[z] = (w[z] << r | w[z] >> 32 - r) & 0xFFFFFFFF

    for _ in range(10):
        for i in range(4):
            quarter(i, i + 4, i + 8, i + 12)
        for i in range(4):
            quarter(i, (i + 1) % 4 + 4, (i + 2) % 4 + 8, (i + 3) % 4 + 12)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(w, state)))


def seal(key, number, associated, plain):
    nonce = bytes(4) + struct.pack("<Q", number)
    out = b""
    for i in range(0, len(plain), 64):
        block = chacha_block(key, i // 64 + 1, nonce)
        out += bytes(a ^ b for a, b in zip(plain[i : i + 64], block))
    one_time = chacha_block(key, 0, nonce)
    r = int.from_bytes(one_time[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    s = int.from_bytes(one_time[16:32], "little")

    def padded(data):
        return data + bytes(-len(data) % 16)

    data = padded(associated) + padded(out) + struct.pack("<QQ", len(associated), len(out))
    a = 0
    for i in range(0, len(data), 16):
        a = (a + int.from_bytes(data[i : i + 16] + b"\1", "little")) * r % (2**130 - 5)
    return out + ((a + s) % 2**128).to_bytes(16, "little")


# ── ML-KEM-768 (FIPS 203) ────────────────────────────────────────────────────────────────────

Q, K, DU, DV = 3329, 3, 10, 4


def reversed_bits(i):
    return int(f"{i:07b}"[::-1], 2)


ZETAS = [pow(17, reversed_bits(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * reversed_bits(i) + 1, Q) for i in range(128)]


def ntt(f):
    f, i, length = f[:], 1, 128
    while length >= 2:
        for start in range(0, 256, 2 * length):
            zeta, i = ZETAS[i], i + 1
            for j in range(start, start + length):
                t = zeta * f[j + length] % Q
                f[j + length], f[j] = (f[j] - t) % Q, (f[j] + t) % Q
        length //= 2
    return f


def inverse_ntt(f):
    f, i, length = f[:], 127, 2
    while length <= 128:
        for start in range(0, 256, 2 * length):
            zeta, i = ZETAS[i], i - 1
            for j in range(start, start + length):
                t = f[j]
                f[j], f[j + length] = (t + f[j + length]) % Q, zeta * (f[j + length] - t) % Q
        length *= 2
    return [x * 3303 % Q for x in f]


def times(f, g):
    out = []
    for i in range(128):
        a0, a1, b0, b1 = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
        out += [(a0 * b0 + a1 * b1 * GAMMAS[i]) % Q, (a0 * b1 + a1 * b0) % Q]
    return out


def plus(f, g):
    return [(a + b) % Q for a, b in zip(f, g)]


def dot(row, vector):
    out = [0] * 256
    for f, g in zip(row, vector):
        out = plus(out, times(f, g))
    return out


def sample_ntt(seed):
    stream, out, i = hashlib.shake_128(seed).digest(1344), [], 0
    while len(out) < 256:
        a, b, c = stream[i : i + 3]
        i += 3
        out += [d for d in (a + 256 * (b % 16), b // 16 + 16 * c) if d < Q]
    return out[:256]


def sample_cbd(seed, n):
    bits = int.from_bytes(hashlib.shake_256(seed + bytes([n])).digest(128), "little")
    return [((bits >> 4 * i & 1) + (bits >> 4 * i + 1 & 1) - (bits >> 4 * i + 2 & 1) - (bits >> 4 * i + 3 & 1)) % Q for i in range(256)]


def encode(d, f):
    return sum(x << d * i for i, x in enumerate(f)).to_bytes(32 * d, "little")


def decode(d, data):
    bits = int.from_bytes(data, "little")
    return [bits >> d * i & (1 << d) - 1 for i in range(256)]


def compress(d, f):
    return [((x << d) + Q // 2) // Q % (1 << d) for x in f]


def decompress(d, f):
    return [(x * Q + (1 << d - 1)) >> d for x in f]


def matrix(rho):
    return [[sample_ntt(rho + bytes([j, i])) for j in range(K)] for i in range(K)]


def kem_keys(seed):
    """(encapsulation key, decapsulation key) of the seed d ‖ z."""
    d, z = seed[:32], seed[32:]
    g = hashlib.sha3_512(d + bytes([K])).digest()
    rho, sigma = g[:32], g[32:]
    a = matrix(rho)
    s = [ntt(sample_cbd(sigma, n)) for n in range(K)]
    e = [ntt(sample_cbd(sigma, n + K)) for n in range(K)]
    t = [plus(dot(a[i], s), e[i]) for i in range(K)]
    ek = b"".join(encode(12, f) for f in t) + rho
    return ek, (s, ek, z)


def pke_encrypt(ek, m, r):
    t = [decode(12, ek[384 * i : 384 * (i + 1)]) for i in range(K)]
    a = matrix(ek[384 * K :])
    y = [ntt(sample_cbd(r, n)) for n in range(K)]
    e1 = [sample_cbd(r, n + K) for n in range(K)]
    e2 = sample_cbd(r, 2 * K)
    u = [plus(inverse_ntt(dot([a[j][i] for j in range(K)], y)), e1[i]) for i in range(K)]
    mu = decompress(1, decode(1, m))
    v = plus(plus(inverse_ntt(dot(t, y)), e2), mu)
    return b"".join(encode(DU, compress(DU, f)) for f in u) + encode(DV, compress(DV, v))


def acceptable(ek):
    """The checks of FIPS 203 §7.2: length and modulus."""
    if len(ek) != 384 * K + 32:
        return False
    return all(x < Q for i in range(K) for x in decode(12, ek[384 * i : 384 * (i + 1)]))


def encapsulate(ek, m):
    assert acceptable(ek)
    g = hashlib.sha3_512(m + hashlib.sha3_256(ek).digest()).digest()
    return pke_encrypt(ek, m, g[32:]), g[:32]


def decapsulate(dk, c):
    s, ek, z = dk
    u = [ntt(decompress(DU, decode(DU, c[320 * i : 320 * (i + 1)]))) for i in range(K)]
    v = decompress(DV, decode(DV, c[320 * K :]))
    w = [(a - b) % Q for a, b in zip(v, inverse_ntt(dot(s, u)))]
    m = encode(1, compress(1, w))
    g = hashlib.sha3_512(m + hashlib.sha3_256(ek).digest()).digest()
    if pke_encrypt(ek, m, g[32:]) == c:
        return g[:32]
    return hashlib.shake_256(z + c).digest(32)


# ── SPEC.md §4 ───────────────────────────────────────────────────────────────────────────────

LABEL = b"ztna-handshake v1 "


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def hmac256(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(prk, label, length=32):
    return hmac256(prk, LABEL + label + b"\1")[:length]


def mac1(receiver, message):
    return hmac256(sha256(LABEL + b"mac1", receiver), message)[:16]


class Transcript:
    def __init__(self):
        self.h = sha256(LABEL + b"X25519 ML-KEM-768 ChaCha20-Poly1305 SHA-256 HKDF-SHA256")
        self.ck = bytes(32)

    def mix(self, tag, data):
        self.h = sha256(self.h, struct.pack(">BH", tag, len(data)), data)

    def secret(self, kind, data):
        self.ck = hmac256(self.h, self.ck + bytes([kind]) + data)

    def seal(self, label, plain):
        return seal(expand(self.ck, label), 0, self.h, plain)


def header(kind, mode, session):
    return b"zHS1" + bytes([kind, 1, mode, 0]) + session


def u64(n):
    return struct.pack(">Q", n)


def run(inputs):
    given = {k: bytes.fromhex(v) for k, v in inputs.items() if isinstance(v, str) and k not in ("mode", "pq")}
    full = inputs["mode"] == "full"
    mode = 1 if full else 2
    side = {}
    for name in ("initiator", "responder"):
        keys = {k: bytes.fromhex(v) for k, v in inputs[name].items()}
        ek, dk = kem_keys(keys["mlkem_seed"])
        assert public(keys["x25519_private"]) == keys["x25519_public"]
        assert sha256(ek) == keys["mlkem_public_sha256"]
        side[name] = (keys["x25519_private"], keys["x25519_public"], ek, dk)
    si, si_public, ki_static, ki_static_secret = side["initiator"]
    sr, sr_public, kr_static, kr_static_secret = side["responder"]
    out = {}

    # Init, by the initiator.
    ei = given["init_x25519"]
    ki, ki_secret = kem_keys(given["init_mlkem_seed"])
    t = Transcript()
    t.mix(1, sr_public)
    t.mix(2, sha256(kr_static))
    init = header(1, mode, given["init_session"])
    t.mix(3, init)
    t.mix(4, public(ei))
    t.mix(5, ki)
    init += public(ei) + ki
    assert x25519(ei, sr_public) == x25519(sr, public(ei))
    t.secret(1, x25519(ei, sr_public))
    if full:
        ct, shared = encapsulate(kr_static, given["init_mlkem_m"])
        assert decapsulate(kr_static_secret, ct) == shared
        t.mix(6, ct)
        t.secret(2, shared)
        sealed = t.seal(b"init identity", si_public)
        t.mix(7, sealed)
        init += ct + sealed
    else:
        handle = expand(given["chain"], b"handle" + si_public, 16)
        t.mix(8, handle)
        init += handle
    t.mix(9, si_public)
    t.mix(10, sha256(ki_static))
    t.mix(11, bytes([{"preferred": 1, "required": 2}[inputs["pq"]]]))
    t.secret(3, x25519(si, sr_public))
    if not full:
        t.secret(4, given["chain"])
    sealed = t.seal(b"init epoch", u64(inputs["proposed_epoch"]))
    t.mix(12, sealed)
    init += sealed
    out["transcript_after_init"] = t.h
    init_mac1 = mac1(sr_public, init)
    init += init_mac1
    out["init_mac2"] = hmac256(given["cookie"], init)[:16]
    init += bytes(16)
    out["init"] = init

    # Resp, by the responder; the initiator's view of each secret is checked beside it.
    er = given["resp_x25519"]
    resp = header(2, mode, given["init_session"])
    t.mix(13, resp)
    t.mix(14, public(er))
    resp += public(er)
    assert x25519(er, public(ei)) == x25519(ei, public(er))
    t.secret(5, x25519(er, public(ei)))
    assert x25519(er, si_public) == x25519(si, public(er))
    t.secret(6, x25519(er, si_public))
    ct, shared = encapsulate(ki, given["resp_mlkem_m_ephemeral"])
    assert decapsulate(ki_secret, ct) == shared
    t.mix(15, ct)
    t.secret(7, shared)
    resp += ct
    if full:
        ct, shared = encapsulate(ki_static, given["resp_mlkem_m_static"])
        assert decapsulate(ki_static_secret, ct) == shared
        t.mix(16, ct)
        t.secret(8, shared)
        resp += ct
    t.secret(9, b"")
    master = t.ck
    number, epoch = inputs["biscuit_number"], inputs["epoch"]
    biscuit = u64(number) + seal(
        given["biscuit_key"],
        number,
        LABEL + b"biscuit" + given["init_session"],
        master + si_public + u64(epoch) + u64(inputs["base"]),
    )
    resp += biscuit
    resp += seal(expand(master, b"resp epoch"), 0, resp, u64(epoch))
    resp += mac1(si_public, resp)
    out["resp"] = resp

    conf = header(3, 0, given["init_session"]) + biscuit
    conf += seal(expand(master, b"conf"), 0, conf, b"")
    out["conf"] = conf + mac1(sr_public, conf)
    ack = header(4, 0, given["init_session"])
    ack += seal(expand(master, b"ack"), 0, ack, b"")
    out["ack"] = ack + mac1(si_public, ack)

    salt = given["cookie_salt"]
    cookie_key = expand(hmac256(salt, sr_public), b"cookie")
    out["cookie_reply"] = (
        header(5, 0, given["init_session"])
        + salt
        + seal(cookie_key, 0, given["init_session"] + init_mac1, given["cookie"])
    )
    if len(init) > 1312:
        half = (len(init) + 1) // 2
        name = sha256(LABEL + b"fragment", init)[:8]
        out["init_fragments"] = [
            b"zHS1" + bytes([6, 1, 0, i]) + name + data for i, data in enumerate((init[:half], init[half:]))
        ]
    else:
        out["init_fragments"] = [init]

    out["master"] = master
    out["psk"] = expand(master, b"wireguard psk")
    out["psk_fingerprint"] = expand(out["psk"], b"psk fingerprint", 8)
    out["chain"] = expand(master, b"chain")
    out["handle_of_initiator"] = expand(out["chain"], b"handle" + si_public, 16)
    out["handle_of_responder"] = expand(out["chain"], b"handle" + sr_public, 16)
    return out


def check_handshakes():
    wrong = []
    for vector in read("handshake-v1.json")["vectors"]:
        made = run(vector["inputs"])
        for name, kept in vector["outputs"].items():
            value = made.pop(name)
            text = [piece.hex() for piece in value] if isinstance(value, list) else value.hex()
            if text != kept:
                wrong.append(f"{vector['name']}: {name} differs")
        assert not made, f"not in the file: {list(made)}"
        print(f"handshake {vector['name']}: checked")
    return wrong


def expanded(dk, ek):
    """The decapsulation key of FIPS 203 §7.1."""
    s, _, z = dk
    return b"".join(encode(12, f) for f in s) + ek + hashlib.sha3_256(ek).digest() + z


def check_ml_kem():
    """This file's own ML-KEM-768 is checked by the vectors of NIST and Wycheproof."""
    vectors = read("ml-kem-768.json")
    wrong = []

    def compare(name, made, kept):
        if made != kept:
            wrong.append(f"ML-KEM {name}: {made} instead of {kept}")

    for vector in vectors["keygen"]:
        ek, dk = kem_keys(bytes.fromhex(vector["seed"]))
        compare(vector["name"], sha256(ek).hex(), vector["ek_sha256"])
        compare(vector["name"], sha256(expanded(dk, ek)).hex(), vector["dk_sha256"])
    for vector in vectors["decapsulate"]:
        seed, c = bytes.fromhex(vector["seed"]), bytes.fromhex(vector["c"])
        if len(seed) != 64 or len(c) != 1088:
            compare(vector["name"], None, vector["k"])
            continue
        ek, dk = kem_keys(seed)
        compare(vector["name"], sha256(ek).hex(), vector["ek_sha256"])
        compare(vector["name"], decapsulate(dk, c).hex(), vector["k"])
    for vector in vectors["encapsulate"]:
        ek, made = bytes.fromhex(vector["ek"]), (None, None)
        if acceptable(ek):
            c, k = encapsulate(ek, bytes.fromhex(vector["m"]))
            made = sha256(c).hex(), k.hex()
        compare(vector["name"], made, (vector["c_sha256"], vector["k"]))
    counts = ", ".join(f"{len(vectors[kind])} {kind}" for kind in ("keygen", "decapsulate", "encapsulate"))
    print(f"ML-KEM-768: {counts}: checked")
    return wrong


def read(name):
    return json.loads(pathlib.Path(__file__).with_name(name).read_text())


def main():
    wrong = check_handshakes() + check_ml_kem()
    for what in wrong:
        print(what)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
