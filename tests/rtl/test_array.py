"""The array of rtl/ executes the MM instructions of programs: the machine's bits, and the time model's cycles."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hfp8sim.formats.vocabulary import MODES
from hfp8sim.isa import Program
from hfp8sim.lowering import lower_layer
from hfp8sim.machine import execute, get_machine
from hfp8sim.network import Layer
from hfp8sim.timing import time_program, timeline
from hfp8sim.units.profile import Profile, get_profile
from tests.rtl.tools import VERILATOR, build, need, parameters, run, word

pytestmark = [pytest.mark.rtl, need(VERILATOR)]

ROWS = 4
SEED, STREAM = 7, 3


@dataclasses.dataclass
class Execution:
    """What the bench printed. Cycles count from the first weight that is loaded."""

    tiles: list[
        tuple[int, ...]
    ]  #: of each MM: first load, first row of A, end of the last row of A
    first: int  #: cycle in which the first sum left the array
    last_of_column_0: int
    last: int
    codes: np.ndarray


def machine(columns: int, products: int):
    """A core whose memory and post unit never delay the array."""
    unlimited = {"memory.bytes_per_cycle": 65536, "memory.latency": 0, "post.lanes": 65536}
    array = {"array.rows": ROWS, "array.columns": columns, "array.macs_8bit": products}
    return get_machine("edge-8x8").replace(**array, **unlimited)


def profile(name: str, **changes: object) -> Profile:
    return get_profile(name).replace(**changes)


def program_of(how: Profile, columns: int, m: int, n: int, k: int, tile: tuple[int, int, int]):
    core = machine(columns, how.products_per_step)
    layer = Layer("x", "linear", m, n, k)
    return core, lower_layer(layer, "fwd", core, how, seed=SEED, stream=STREAM, tile=tile)


def operands(how: Profile, m: int, n: int, k: int) -> dict[str, np.ndarray]:
    """Any codes, NaN in the first row of A alone, and no large weights, so that sums stay finite."""
    rng = np.random.default_rng(m * n + k)
    x, w = rng.integers(0, 256, (m, k), np.uint8), rng.integers(0, 256, (k, n), np.uint8)
    x[1:] = np.where((x[1:] & 0x7F) == 0x7F, 0x3F, x[1:])
    return {"x": x, "w": w & 0xBF}


def simulate(how: Profile, columns: int, inputs, program: Program, core, folder) -> Execution:
    """Execute the MM instructions of a program on the array."""
    formats = {
        "A_FORMAT": how.a_format, "B_FORMAT": how.b_format, "ACC_FORMAT": how.accumulator,
        "BETWEEN_FORMAT": how.between_chunks,
    }  # fmt: skip
    bench = build(
        "hfp8_matrix", "matrix",
        parameters(
            **formats, PRODUCTS=how.products_per_step, RANDOM_BITS=how.random_bits, ROWS=ROWS,
            COLUMNS=columns,
        ),
    )  # fmt: skip
    x, w = inputs["x"], inputs["w"]
    tiles = [span.tile[2:] for span in timeline(program, core) if span.unit == "array"]
    numbers = [
        *(word(each) for each in formats.values()),
        how.random_bits, how.products_per_step, ROWS, columns,
        MODES.index(how.rounding), MODES.index(how.between_rounding),
        int(how.overflow == "saturate"), how.chunk_length, SEED, STREAM,
        x.shape[0], w.shape[1], x.shape[1], *x.ravel(), *w.ravel(),
        len(tiles), *(number for tile in tiles for number in tile),
    ]  # fmt: skip
    file = folder / "tiles.txt"
    file.write_text(" ".join(map(str, numbers)))
    lines = [line.split() for line in run(bench, file).stdout.splitlines()]
    codes = np.array([int(code, 16) for code in lines[-1][1:]])
    leave = map(int, lines[-2][1:])
    spans = [tuple(map(int, line[1:])) for line in lines[:-2]]
    return Execution(spans, *leave, codes.reshape(x.shape[0], w.shape[1]))


#: profile, columns, M, N, K, tile: one tile and several; ragged in every dimension; tiles of k that end in a chunk or
#: within one; fewer rows of A than the array has; two products a cycle; no chunks; stochastic in both roundings.
CASES = [
    ("hfp8", {}, 4, 10, 9, 150, (10, 9, 150)),
    ("hfp8", {}, 4, 10, 9, 150, (5, 4, 64)),
    ("hfp8", {"chunk_length": 16}, 4, 13, 7, 77, (4, 7, 24)),
    ("hfp8", {"chunk_length": 0}, 4, 6, 5, 40, (6, 4, 16)),
    ("hfp8", {}, 4, 3, 8, 72, (3, 8, 72)),
    ("hfp8", {}, 4, 1, 4, 12, (1, 4, 12)),
    ("rapid", {}, 6, 9, 13, 150, (9, 13, 150)),
    ("rapid", {"chunk_length": 32}, 6, 5, 7, 90, (5, 6, 40)),
    ("hfp8", {"rounding": "stochastic-a", "between_rounding": "stochastic-a"}, 4, 7, 9, 150, (4, 8, 68)),
    ("rapid", {"rounding": "stochastic-b", "between_rounding": "stochastic-c", "chunk_length": 16}, 6, 9, 8, 50, (9, 8, 24)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "columns", "m", "n", "k", "tile"), CASES)
def test_array_gives_the_machines_bits(name, changes, columns, m, n, k, tile, tmp_path):
    how = profile(name, **changes)
    core, program = program_of(how, columns, m, n, k, tile)
    inputs = operands(how, m, n, k)
    expected = execute(program, inputs, core).outputs["y"]
    result = simulate(how, columns, inputs, program, core, tmp_path)
    assert np.array_equal(result.codes, expected)
    assert len(np.unique(expected)) > m * n // 2


@pytest.mark.parametrize(("name", "changes", "columns", "m", "n", "k", "tile"), CASES)
def test_array_takes_the_time_models_cycles(name, changes, columns, m, n, k, tile, tmp_path):
    """The model books a whole block of `ROWS` cycles for fewer rows of A, also at the end, where the array goes on."""
    how = profile(name, **changes)
    core, program = program_of(how, columns, m, n, k, tile)
    result = simulate(how, columns, operands(how, m, n, k), program, core, tmp_path)
    spans = timeline(program, core)
    loads = [span for span in spans if span.unit == "weights"]
    multiplications = [span for span in spans if span.unit == "array"]
    origin = loads[0].start
    assert [span.start - origin for span in multiplications] == [
        start for _, start, _ in result.tiles
    ]
    rows = [span.tile[3] for span in multiplications]
    short = [max(0, ROWS - each) for each in rows]  # cycles of a last block without a row
    ends = [span.end - origin - each for span, each in zip(multiplications, short)]
    assert ends == [end for *_, end in result.tiles]

    parts = time_program(program, core).layers[0].parts
    blocks = [-(-s.tile[7] // (ROWS * how.products_per_step)) * -(-s.tile[5] // columns) for s in multiplications]  # fmt: skip
    assert parts.compute == sum(each * block for each, block in zip(rows, blocks))
    assert parts.fill == result.first - result.tiles[0][1] == ROWS - 1
    assert parts.drain == result.last - result.last_of_column_0 == columns - 1
    total = parts.weight_load + parts.compute + parts.fill + parts.drain
    assert total - short[-1] == result.last + 1
