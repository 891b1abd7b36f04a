"""What tiles of an unfolded image load: counted by runs of tiles, and tile by tile."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hfp8sim._numba.interpreted import Budget
from hfp8sim.isa.table import CSR, reset_registers
from hfp8sim.lowering import tiling
from hfp8sim.lowering.tiling import image_elements, image_registers, tile_runs
from hfp8sim.machine.boxes import image_lines
from hfp8sim.network import PHASES, Conv, Layer, phase_gemm


def elements_tile_by_tile(regs, rows, row_size, columns, column_size):
    """Elements of all tiles together and of the largest, each tile's lines times width times channels."""
    elements = []
    for row in range(0, rows, row_size):
        for column in range(0, columns, column_size):
            _, lines, _, channels = image_lines(
                regs, row, min(row_size, rows - row), column, min(column_size, columns - column)
            )
            elements.append(lines * int(regs[CSR.image_width]) * channels)
    return sum(elements), max(elements)


PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw):
    """Small convolutions, with padding, gaps between taps, and groups."""
    kernel, dilation = draw(st.tuples(st.integers(1, 5), st.integers(1, 4))), draw(PAIR)
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilation)]
    size = [extent + draw(st.integers(0, 9)) for extent in reach]
    groups = draw(st.integers(1, 2))
    return Conv(
        draw(st.integers(1, 3)), *size, groups * draw(st.integers(1, 6)),
        groups * draw(st.integers(1, 4)), kernel, stride=draw(PAIR),
        padding=draw(st.tuples(*[st.integers(0, 4)] * 4)), dilation=dilation, groups=groups,
    )  # fmt: skip


def image_of(conv, phase):
    view = phase_gemm(Layer.from_conv("c", conv), phase).a
    assume(view.image is not None)
    return view.image


@settings(max_examples=300, deadline=None)
@given(convolutions(), st.sampled_from(PHASES), st.data())
def test_image_elements_equal_the_count_tile_by_tile(conv, phase, data):
    image = image_of(conv, phase)
    regs = np.array(reset_registers(), np.int64)
    for name, value in image_registers(image).items():
        regs[getattr(CSR, name.replace(".", "_"))] = value
    rows = conv.batch * image.grid[0] * image.grid[1]
    columns = image.kernel[0] * image.kernel[1] * image.channels
    sizes = data.draw(st.tuples(st.integers(1, rows), st.integers(1, columns)))
    cut = (regs, rows, sizes[0], columns, sizes[1])
    assert image_elements(*cut) == elements_tile_by_tile(*cut)


@pytest.mark.parametrize("budget", [0, 10**6])
def test_elements_of_all_cuts_are_those_of_each(budget, monkeypatch):
    """Interpreted within the budget, which then has fewer steps by at least one for each tile; or compiled."""
    monkeypatch.setattr(tiling.INTERPRETED, "steps", budget)
    monkeypatch.setattr(Budget, "left", lambda self, *_: self.steps)
    conv = Conv(2, 14, 14, 8, 4, (3, 3), padding=(1, 1, 1, 1))
    regs = np.array(reset_registers(), np.int64)
    image = phase_gemm(Layer.from_conv("c", conv), "fwd").a.image
    assert image is not None
    for name, value in image_registers(image).items():
        regs[getattr(CSR, name.replace(".", "_"))] = value
    cuts = [(392, size, 72, depth) for size, depth in ((1, 72), (30, 8), (392, 5))]
    elements = tiling._all_image_elements(regs, cuts)
    assert elements == [elements_tile_by_tile(regs, *cut) for cut in cuts]
    assert budget - tiling.INTERPRETED.steps >= (392 if budget else 0)


@settings(max_examples=100, deadline=None)
@given(convolutions(), st.sampled_from(PHASES))
@example(Conv(1, 4, 4, 1, 1, (1, 1), gaps=(2, 2), padding=(-1, -1, -1, -1)), "fwd")
def test_pixels_read_equal_the_places_of_all_taps(conv, phase):
    image, counts = image_of(conv, phase), []
    for axis, size in enumerate((image.height, image.width)):
        places = {
            position * image.stride[axis] + tap * image.dilation[axis] - image.pad[axis]
            for position in range(image.grid[axis])
            for tap in range(image.kernel[axis])
        }
        divide = image.divide[axis]
        counts.append(sum(p % divide == 0 and 0 <= p < size * divide for p in places))
    assert image.pixels_read == counts[0] * counts[1]


def test_tile_runs_merge_tiles_within_one_line():
    """Three tiles within line 0, one from line 0 to 1, and a short one."""
    assert tile_runs(11, 3, 10, 5).tolist() == [[0, 0, 3 + 5 + 3, 5], [0, 1, 5, 5]]


def test_kernels_as_large_as_the_image_are_planned_at_once():
    """A product M×K as an M×K image with a filter of 1×K: millions of places of the filter's gradient."""
    layer = Layer.from_conv("g", Conv(1, 7860, 2560, 1, 64, (1, 2560)))
    image = phase_gemm(layer, "dgrad").a.image
    assert image is not None and image.pixels_read == 7860
