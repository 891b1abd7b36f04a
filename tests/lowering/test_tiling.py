"""What tiles of an unfolded image load: counted by lines in which they start, and tile by tile."""

import sys

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hfp8sim._numba.interpreted import Budget, interpreted
from hfp8sim.isa.table import CSR, reset_registers
from hfp8sim.lowering import images
from hfp8sim.lowering.images import elements_of_cuts, image_registers, tile_lines
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


def registers(image):
    """All registers, with those that describe an image."""
    regs = np.array(reset_registers(), np.int64)
    for name, value in image_registers(image).items():
        regs[getattr(CSR, name.replace(".", "_"))] = value
    return regs


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
    rows = conv.batch * image.grid[0] * image.grid[1]
    columns = image.kernel[0] * image.kernel[1] * image.channels
    sizes = data.draw(st.tuples(st.integers(1, rows), st.integers(1, columns)))
    total, largest = elements_of_cuts(image, rows, [sizes[0]], columns, [sizes[1]])
    cut = (registers(image), rows, sizes[0], columns, sizes[1])
    assert (total[0, 0], largest[0, 0]) == elements_tile_by_tile(*cut)


@pytest.mark.parametrize(
    ("phase", "conv"),
    [
        ("fwd", Conv(1, 3, 1, 1, 1, (2, 1), stride=(2, 1), padding=(2, 3, 0, 0))),
        ("fwd", Conv(2, 10, 9, 1, 1, (2, 1), stride=(2, 1), padding=(4, 2, 0, 4))),
        ("dgrad", Conv(1, 3, 1, 1, 1, (2, 1), padding=(0, 1, 0, 0), dilation=(2, 1))),
    ],
)
def test_largest_tile_between_unequal_paddings(phase, conv):
    """Of tiles that start in different lines, the one whose middle is nearest to the image's reads most."""
    image = phase_gemm(Layer.from_conv("c", conv), phase).a.image
    rows = conv.batch * image.grid[0] * image.grid[1]
    for size in range(1, rows + 1):
        total, largest = elements_of_cuts(image, rows, [size], 2, [1])
        tiles = elements_tile_by_tile(registers(image), rows, size, 2, 1)
        assert (total[0, 0], largest[0, 0]) == tiles


@pytest.mark.parametrize("budget", [0, 10**6])
def test_elements_of_all_cuts_are_those_of_each(budget, monkeypatch):
    """Interpreted within the budget, which then has fewer steps by at least one for each tile; or compiled."""
    monkeypatch.setattr(images.INTERPRETED, "steps", budget)
    monkeypatch.setattr(Budget, "left", lambda self, *_: self.steps)
    image = phase_gemm(
        Layer.from_conv("c", Conv(2, 14, 14, 8, 4, (3, 3), padding=(1, 1, 1, 1))), "fwd"
    ).a.image
    assert image is not None
    row_sizes, column_sizes = [7, 30, 392], [5, 8, 72]
    totals, largest = elements_of_cuts(image, 392, row_sizes, 72, column_sizes)
    for i, rows in enumerate(row_sizes):
        for j, columns in enumerate(column_sizes):
            cut = elements_tile_by_tile(registers(image), 392, rows, 72, columns)
            assert (totals[i, j], largest[i, j]) == cut
    assert budget - images.INTERPRETED.steps >= (392 // 7 if budget else 0)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("stride", [1, 3])
def test_filters_of_thousands_of_lines_are_counted_line_by_line(phase, stride):
    """Not for each pair of a line of the grid and one of the filter, of which there are millions. The search for the
    largest tile ends at the first that lies within the image."""
    conv = Conv(1, 3200, 1, 1, 1, (1600, 1), stride=(stride, 1))
    image = phase_gemm(Layer.from_conv("c", conv), phase).a.image
    assert image is not None
    rows, columns = image.grid[0] * image.grid[1], image.kernel[0] * image.kernel[1]
    regs, sizes = registers(image), np.array([1, 7, 64], np.int64)
    totals, largest = np.zeros((3, 3), np.int64), np.zeros((3, 3), np.int64)
    calls = 0

    def count(frame, event, _argument):
        nonlocal calls
        calls += event == "call" and frame.f_code.co_name in ("lines_above", "_lines_at_most")

    function = interpreted(images.image_elements)
    sys.setprofile(count)
    try:
        function(regs, rows, sizes, columns, sizes, totals, largest)
    finally:
        sys.setprofile(None)
    assert 0 < calls < 10 * sizes.size**2
    expected = elements_tile_by_tile(regs, rows, 64, columns, 64)
    assert (totals[2, 2], largest[2, 2]) == expected


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


def test_tiles_are_counted_by_line_and_length():
    """Tiles of 3 in lines of 10, in blocks of 5: three in line 0, one from line 0 to 1, and a short one in line 1."""
    lengths, sums, most = np.zeros(3, int), np.zeros((3, 2), int), np.zeros((3, 2), int)
    tile_lines(14, 3, 10, 5, lengths, sums, most)
    assert lengths.tolist() == [0, 1, 0]
    assert sums.tolist() == [[3 + 5 + 3, 0], [5, 0], [0, 2]]
    assert most.tolist() == [[5, 0], [5, 0], [0, 2]]


def test_kernels_as_large_as_the_image_are_planned_at_once():
    """A product M×K as an M×K image with a filter of 1×K: millions of places of the filter's gradient."""
    layer = Layer.from_conv("g", Conv(1, 7860, 2560, 1, 64, (1, 2560)))
    image = phase_gemm(layer, "dgrad").a.image
    assert image is not None and image.pixels_read == 7860
