"""Random damage of files, such as editing and copying errors cause."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

FRAGMENTS = [
    b"",
    b"0",
    b"-1",
    b"1e9",
    b"99999999999999999999",
    b"nan",
    b",",
    b"\n",
    b"\t",
    b"\x00",
    b"\xff\xfe",
    b"[",
    b"]",
    b"{",
    b": ",
    b"- ",
    b"*a",
    b"&a ",
    b"'",
    b"null",
    b"true",
    b"1.5",
    "\u00a0é".encode(),
]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to four edits: a bit flipped, bytes replaced, deleted, inserted or repeated, the end cut off."""
    for _ in range(rng.randint(1, 4)):
        start, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 16))
        kind = rng.randrange(7)
        if kind == 0 and start < len(data):
            data = data[:start] + bytes([data[start] ^ (1 << rng.randrange(8))]) + data[start + 1 :]
        elif kind == 1:
            data = data[:start] + rng.randbytes(length) + data[start + length :]
        elif kind == 2:
            data = data[:start]
        elif kind == 3:
            data = data[:start] + data[start + length :]
        elif kind == 4:
            data = data[:start] + rng.choice(FRAGMENTS) + data[start:]
        elif kind == 5:
            data = data[:start] + rng.choice(FRAGMENTS) + data[start + length :]
        else:
            data = data[:start] + data[max(0, start - 8 * length) :]
        if not data:
            break
    return data


def read_all(
    folder: Path, name: str, data: bytes, read: Callable[[Path], bool], seeds: Iterable[int]
) -> None:
    """Call `read` on the file `name`, damaged in another way for each seed.

    `read` returns whether it could read the file. Every exception is a failure, and so is a file that it
    leaves in the folder.
    """
    path, answers = folder / name, set()
    path.write_bytes(data)
    assert read(path), "what is not damaged should be readable"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, on headers of Python 2
        for seed in seeds:
            path.write_bytes(mutated(data, random.Random(f"{name}:{seed}")))
            try:
                answers.add(read(path))
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
            assert [p.name for p in folder.iterdir()] == [name]
    assert False in answers, "some damage should be noticed"
