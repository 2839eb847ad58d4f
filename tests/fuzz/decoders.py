"""
Random inputs for the decoders of all kernels, held against what the inputs
say by the offsets in the headers.

    python -m tests.fuzz.decoders --inputs 1000000 [--seed N]

prints a line for each decoder, and fails at the first difference or at any
error but the typed ones.
"""

from __future__ import annotations

import argparse
import random
import struct
import time
from collections.abc import Iterator

from twisted_peercred import CredentialsUnavailable
from twisted_peercred.kernels import linux

from ..recorded import VECTORS, cut
from ..structures import NAMES, NO_ID, ORDERS, STRUCTURES, Field

#: Numbers at which something changes.
EDGES = (0, 1, 2, 15, 16, 17, 18, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, NO_ID)


def swap(data: bytes, name: str) -> bytes:
    """
    A structure in the other byte order: numbers of four bytes, but for one of
    two, whose padding comes after it in either order.
    """
    short = {"cmsgcred": 16}.get(name, 8 if "xucred" in name else None)
    words = struct.unpack(f"<{len(data) // 4}I", data)
    big = bytearray(struct.pack(f">{len(words)}I", *words))
    if short is not None:
        big[short : short + 4] = big[short + 2 : short + 4] + b"\0\0"
    return bytes(big)


def seeds(name: str) -> list[bytes]:
    """
    Bytes to begin with, little-endian.
    """
    found = [STRUCTURES[name].example]
    for each in VECTORS:
        data = bytes.fromhex(each["hex"])
        if each["what"] == "peer":
            if NAMES[each["decoded"]["type"]] == name:
                found.append(data)
            continue
        for (_, _, payload), decoded in zip(cut(data), each["decoded"], strict=True):
            if NAMES[decoded["type"]] == name:
                found.append(payload)
    return found


def mutate(data: bytes, order: str, chance: random.Random) -> bytes:
    """
    Another input.
    """
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        kind = chance.randrange(6)
        if kind == 0 and changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        elif kind == 1 and changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        elif kind == 2 and len(changed) >= 4:
            at = 4 * chance.randrange(len(changed) // 4)
            number = chance.choice((*EDGES, chance.getrandbits(32)))
            changed[at : at + 4] = number.to_bytes(4, ORDERS[order])
        elif kind == 3 and chance.randrange(4) == 0:
            del changed[chance.randrange(len(changed) + 1) :]
        elif kind == 4 and chance.randrange(4) == 0:
            changed += chance.randbytes(chance.randrange(1, 9))
        elif kind == 5 and chance.randrange(16) == 0:
            changed = bytearray(chance.randbytes(chance.randrange(128)))
    return bytes(changed)


def readUcred(data: bytes, order: str) -> tuple[int, int, int] | None:
    """
    What C{struct ucred} of Linux says.
    """
    field = Field(data, order)
    uid, gid = field.unsigned(4), field.unsigned(8)
    if len(data) != 12 or NO_ID in (uid, gid):
        return None
    return field.signed(0), uid, gid


def readGroups(data: bytes, order: str) -> tuple[int, ...] | None:
    """
    What C{SO_PEERGROUPS} of Linux says.
    """
    if len(data) % 4:
        return None
    return tuple(sorted({5, *Field(data, order).groups(0, len(data) // 4)}))


def fuzz(inputs: int, seed: int) -> Iterator[tuple[str, int]]:
    """
    Try all decoders.

    @param inputs: how many for each.
    @return: for each its name, and how many inputs were somebody.
    @raise AssertionError: a decoder said something else than its input.
    """
    decoders = {
        name: (each.decode, each.read, seeds(name)) for name, each in STRUCTURES.items()
    }
    decoders["Linux ucred"] = (
        linux.decodeCredentials,
        readUcred,
        [struct.pack("<iII", 8, 1002, 2002)],
    )
    decoders["Linux groups"] = (
        lambda data, order: linux.decodeGroups(data, 5, order),
        readGroups,
        [struct.pack("<4I", 1, 5, 9, 7), b""],
    )
    for name, (decode, read, examples) in decoders.items():
        chance = random.Random(f"{name} {seed}")
        beginnings = [
            *(("<", each) for each in examples),
            *((">", swap(each, name)) for each in examples),
        ]
        said = 0
        for _ in range(inputs):
            order, data = chance.choice(beginnings)
            data = mutate(data, order, chance)
            try:
                known = decode(data, order)
            except CredentialsUnavailable:
                known = None
            if known != read(data, order):
                raise AssertionError(f"{name}: {order} {data.hex()}: {known}")
            said += known is not None
        yield name, said


def main() -> None:
    """
    The command.
    """
    parser = argparse.ArgumentParser(description="Try the decoders of all kernels.")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="per decoder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    for name, said in fuzz(options.inputs, options.seed):
        print(
            f"{name:24}  {options.inputs:9,} inputs: {said:9,} somebody,"
            f" {options.inputs - said:9,} refused, no difference",
            flush=True,
        )
    print(f"seed {options.seed}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
