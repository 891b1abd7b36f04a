"""Elements that LD brings of an unfolded image which is cut into tiles: for all tiles together, and for the largest.

A tile of rows × columns reads the lines of an image from the first line that its first row reads through its first
filter tap to the last line that its last row reads through its last tap. How many these are depends on four
numbers: the line of the grid in which the tile starts, how many lines further it ends, and the same for the lines of
filter taps. There are as many tiles as places of the filter times taps, but few lines, and two or three lengths. So
tiles are counted by line and length along each dimension, and neither pairs of tiles nor pairs of lines are listed.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hfp8sim._numba.interpreted import Budget, interpreted
from hfp8sim._numba.jit import jit
from hfp8sim.isa.table import CSR, reset_registers
from hfp8sim.machine.state import ceil_div
from hfp8sim.network import Image

#: Steps of `image_elements` that a process interprets before it compiles: about half a second.
INTERPRETED = Budget(200_000)

Numbers = NDArray[np.int64]

#: Lengths of tiles along a dimension, in lines: the shorter one, one line more, and that of the last tile if it is
#: smaller than the others.
_LENGTHS = 3


def image_registers(image: Image) -> dict[str, int]:
    """The registers that describe an image."""
    values = {
        "image.height": image.height,
        "image.width": image.width,
        "image.channels": image.channels,
        "image.pixel_pitch": image.pixel_pitch,
        "image.line_pitch": image.line_pitch,
        "image.pitch": image.image_pitch,
    }
    for name, pair in (
        ("grid", image.grid), ("kernel", image.kernel), ("stride", image.stride),
        ("pad", image.pad), ("dilation", image.dilation), ("divide", image.divide),
    ):  # fmt: skip
        values |= {f"{name}.height": pair[0], f"{name}.width": pair[1]}
    return values


def elements_of_cuts(
    image: Image, rows: int, row_sizes: list[int], columns: int, column_sizes: list[int]
) -> tuple[Numbers, Numbers]:
    """Elements that LD brings of an unfolded image of rows × columns, for each pair of tile sizes.

    Returns:
        (row sizes, column sizes) integers, twice: for all tiles together, and for the largest tile.
    """
    regs = np.array(reset_registers(), np.int64)
    for name, value in image_registers(image).items():
        regs[getattr(CSR, name.replace(".", "_"))] = value
    totals = np.zeros((len(row_sizes), len(column_sizes)), np.int64)
    largest = np.zeros_like(totals)
    cuts = (rows, np.array(row_sizes, np.int64), columns, np.array(column_sizes, np.int64))
    arguments = (regs, *cuts, totals, largest)
    steps, function = _steps(regs, *cuts), image_elements
    if steps <= INTERPRETED.left(image_elements, *arguments):
        INTERPRETED.spend(steps)
        function = interpreted(image_elements)  # type: ignore[assignment]
    function(*arguments)
    return totals, largest


def _steps(
    regs: Numbers, rows: int, row_sizes: Numbers, columns: int, column_sizes: Numbers
) -> int:
    """About how many steps `image_elements` takes."""
    grid, kernel = int(regs[CSR.grid_height]), int(regs[CSR.kernel_height])
    lines = rows // int(regs[CSR.grid_width])
    taps = kernel * int(regs[CSR.kernel_width])
    steps = int(np.minimum(-(-rows // row_sizes), 2 * lines).sum())
    steps += int(np.minimum(-(-columns // column_sizes), 2 * taps).sum())
    sums = 2 * (grid + kernel * min(int(regs[CSR.divide_height]), grid))
    return steps + (sums + grid * row_sizes.size) * column_sizes.size


@jit
def image_elements(regs, rows, row_sizes, columns, column_sizes, totals, largest):
    """Fill (row sizes, column sizes) arrays with the elements of all tiles together, and of the largest."""
    grid_lines, tap_lines = regs[CSR.grid_height], regs[CSR.kernel_height]
    width, depth = regs[CSR.image_width], regs[CSR.image_channels]
    grid_lengths = np.zeros((len(row_sizes), _LENGTHS), np.int64)
    grid_first = np.zeros((len(row_sizes), grid_lines), np.int64)
    grid_last = np.zeros((len(row_sizes), grid_lines), np.int64)
    grid_images = np.zeros(len(row_sizes), np.int64)
    grid_starts = np.zeros((len(row_sizes), _LENGTHS, grid_lines), np.int64)
    grid_counts = np.zeros((len(row_sizes), _LENGTHS), np.int64)
    for i in range(len(row_sizes)):
        sums = np.zeros((_LENGTHS, grid_lines), np.int64)
        most = np.zeros((_LENGTHS, grid_lines), np.int64)
        tile_lines(rows, row_sizes[i], regs[CSR.grid_width], 1, grid_lengths[i], sums, most)
        grid_images[i] = _count_ends(grid_lengths[i], sums, grid_first[i], grid_last[i])
        _find_starts(most, grid_starts[i], grid_counts[i])
    for j in range(len(column_sizes)):
        lengths = np.zeros(_LENGTHS, np.int64)
        sums = np.zeros((_LENGTHS, tap_lines), np.int64)
        most = np.zeros((_LENGTHS, tap_lines), np.int64)
        line = depth * regs[CSR.kernel_width]
        tile_lines(columns, column_sizes[j], line, depth, lengths, sums, most)
        above, through = _lines_through_taps(regs, lengths, sums)
        taps = sums.sum()
        starts = np.zeros((_LENGTHS, tap_lines), np.int64)
        counts = np.zeros(_LENGTHS, np.int64)
        _find_starts(most, starts, counts)
        for i in range(len(row_sizes)):
            lines = grid_images[i] * regs[CSR.image_height] * taps
            for line in range(grid_lines):
                lines += grid_last[i, line] * through[line] - grid_first[i, line] * above[line]
            totals[i, j] = width * lines
            largest[i, j] = width * _most_lines(
                regs, grid_lengths[i], grid_starts[i], grid_counts[i], lengths, starts, counts, most
            )


@jit
def _count_ends(lengths, sums, first, last):
    """Count tiles by the line in which they start, and by the one in which they end.

    Args:
        lengths, sums: see `tile_lines`.
        first, last: of lines, all 0; filled with what the tiles count together.

    Returns how many images the tiles reach beyond the one in which they start, all together.
    """
    lines, images = sums.shape[1], 0
    for place in range(_LENGTHS):
        for line in range(lines):
            if sums[place, line]:
                end = line + lengths[place]
                first[line] += sums[place, line]
                last[end % lines] += sums[place, line]
                images += end // lines * sums[place, line]
    return images


@jit
def _find_starts(most, starts, counts):
    """Fill the lines in which tiles of each length start, and how many these are."""
    for place in range(_LENGTHS):
        for line in range(most.shape[1]):
            if most[place, line]:
                starts[place, counts[place]] = line
                counts[place] += 1


@jit
def tile_lines(extent, size, line, depth, lengths, sums, most):
    """Count the tiles of a dimension by their length and the line in which they start.

    Args:
        extent: of the dimension, which is cut into tiles of `size`.
        line: elements of a line, a multiple of `depth`.
        depth: a tile counts as its size, if it lies within one block of `depth` elements, else as `depth`.
        lengths: (3,), filled with lines from the one where a tile starts to the one where it ends: 0 if these
            are the same.
        sums, most: (3, lines), all 0; filled with what the tiles count together, and with the largest of them.
            The lines of all images are counted together.
    """
    lines, start = sums.shape[1], 0
    lengths[0] = (size - 1) // line
    lengths[1] = lengths[0] + 1
    block = (
        line if depth == 1 else depth
    )  # tiles in one block start and end in the same line, and count the same
    while start < extent:
        last = min(start + size, extent) - 1
        first_line = start // line
        length = last // line - first_line
        place = length - lengths[0]
        if last + 1 - start < size:
            place = 2
            lengths[2] = length
        weight, tiles = depth, 1
        if start // block == last // block:
            weight = min(last + 1 - start, depth)
            if place < 2:
                tiles = (min((start // block + 1) * block, extent) - start) // size
        sums[place, first_line % lines] += weight * tiles
        most[place, first_line % lines] = max(most[place, first_line % lines], weight)
        start += size * tiles


@jit
def lines_above(regs, grid_line, tap_line, inclusive):
    """Lines of the image above the one that a line of the grid reads through a line of taps; or, if `inclusive`
    is 1, down to it. Where there is no such line, the next one below counts, or above if `inclusive`."""
    place = grid_line * regs[CSR.stride_height] + tap_line * regs[CSR.dilation_height]
    line = ceil_div(place - regs[CSR.pad_height] + inclusive, regs[CSR.divide_height])
    return min(max(line, 0), regs[CSR.image_height])


@jit
def _lines_through_taps(regs, lengths, sums):
    """For each line of the grid, `lines_above` through the first lines of taps of all tiles, and through their last
    ones, each times what the tiles count."""
    first = np.zeros(sums.shape[1], np.int64)
    last = np.zeros(sums.shape[1], np.int64)
    _count_ends(lengths, sums, first, last)
    return _weighted_lines(regs, first, 0), _weighted_lines(regs, last, 1)


@jit
def _weighted_lines(regs, weights, inclusive):
    """For each line of the grid, the sum of `lines_above` through all lines of taps, times their weights.

    `lines_above` is 0 for the first taps, the image's height for the last ones, and between them a quotient. The
    quotients differ by a whole number for lines of the grid with the same remainder, which share sums over taps.
    """
    stride, dilation = regs[CSR.stride_height], regs[CSR.dilation_height]
    divide, height = regs[CSR.divide_height], regs[CSR.image_height]
    grid_lines, taps = regs[CSR.grid_height], len(weights)
    result = np.zeros(grid_lines, np.int64)
    period = min(divide, grid_lines)  # of the remainders
    count, quotients = np.zeros(taps + 1, np.int64), np.zeros(taps + 1, np.int64)
    for tap in range(taps):
        count[tap + 1] = count[tap] + weights[tap]
    for start in range(period):
        rest = (start * stride - regs[CSR.pad_height] + inclusive) % divide
        for tap in range(taps):
            quotient = ceil_div(rest + tap * dilation, divide)
            quotients[tap + 1] = quotients[tap] + weights[tap] * quotient
        for line in range(start, grid_lines, period):
            place = line * stride - regs[CSR.pad_height] + inclusive
            low = min(max(-place // dilation + 1, 0), taps)
            high = min(max(((height - 1) * divide - place) // dilation + 1, low), taps)
            between = place // divide * (count[high] - count[low])
            between += quotients[high] - quotients[low]
            result[line] = between + height * (count[taps] - count[high])
    return result


@jit
def _most_lines(regs, lengths, starts, counts, tap_lengths, tap_starts, tap_counts, tap_most):
    """The most lines that a tile reads, times what its columns count: the largest of pairs of lines in which tiles of
    some length start."""
    grid_lines, best = starts.shape[1], 0
    for tap_place in range(_LENGTHS):
        if tap_counts[tap_place] == 0:
            continue
        taps = tap_starts[tap_place, : tap_counts[tap_place]]
        tap_length, weights = tap_lengths[tap_place], tap_most[tap_place]
        weight = weights.max()
        for place in range(_LENGTHS):
            if counts[place] == 0:
                continue
            lines = starts[place, : counts[place]]
            images, length = lengths[place] // grid_lines, lengths[place] % grid_lines
            for crosses in range(2):  # an image's end: tiles that start in its last lines
                first, last = grid_lines - length, grid_lines
                if crosses == 0:
                    first, last = 0, first
                if (
                    lines[0] < last
                    and lines[-1] >= first
                    and best
                    < weight
                    * _bound(regs, images + crosses, length - crosses * grid_lines, tap_length)
                ):
                    most = _most_of_lengths(
                        regs, images + crosses, length - crosses * grid_lines,
                        lines[np.searchsorted(lines, first) : np.searchsorted(lines, last)],
                        tap_length, taps, weights, best,
                    )  # fmt: skip
                    best = max(best, most)
    return best


@jit
def _bound(regs, images, length, tap_length):
    """A bound on the lines that a tile of some length reads, wherever it starts."""
    span = length * regs[CSR.stride_height] + tap_length * regs[CSR.dilation_height]
    within = max(span // regs[CSR.divide_height] + 1, 0)
    return images * regs[CSR.image_height] + min(within, regs[CSR.image_height])


@jit
def _most_of_lengths(regs, images, length, lines, tap_length, taps, weights, best):
    """The largest product of lines read and what columns count, of the tiles of one length, or `best` if that is more.

    Args:
        images, length: from the line of the grid where a tile starts to the one where it ends.
        lines: of the grid, those where tiles start.
        tap_length, taps: the same of lines of taps.
        weights: the most that columns count, of tiles that start in each line of taps.
    """
    span = length * regs[CSR.stride_height] + tap_length * regs[CSR.dilation_height]
    divide, height = regs[CSR.divide_height], regs[CSR.image_height]
    weight = weights.max()
    if span < 0:  # of places with the same remainder, the first or the last one reads most
        lines = _ends(lines, regs[CSR.stride_height], divide)
    rests = _remainders(lines, regs[CSR.stride_height], -regs[CSR.pad_height], divide)
    tap_rests = _remainders(taps, regs[CSR.dilation_height], 0, divide)
    bound = min(_lines_within(span, rests, tap_rests), height)
    bound = (images * height + bound) * weight
    for i in range(len(lines)):
        line = lines[(len(lines) // 2 + i) % len(lines)]
        # The lines that a tile reads become fewer with the distance of its middle from that of the image.
        middle = (height - 1) * divide - span
        middle += 2 * (regs[CSR.pad_height] - line * regs[CSR.stride_height])
        nearest = np.searchsorted(taps, ceil_div(middle, 2 * regs[CSR.dilation_height]))
        for step in (1, -1):
            place = nearest if step == 1 else nearest - 1
            while 0 <= place < len(taps):
                tap = taps[place]
                if (images * height + _lines_at_most(regs, line, tap, span)) * weight <= best:
                    break
                start = lines_above(regs, line, tap, 0)
                stop = lines_above(regs, line + length, tap + tap_length, 1)
                best = max(best, (images * height + stop - start) * weights[tap])
                if best >= bound:
                    return best
                place += step
    return best


@jit
def _lines_at_most(regs, line, tap, span):
    """A bound on the lines of the image that `span` places hold, from the one of a line of the grid and of taps."""
    first = line * regs[CSR.stride_height] + tap * regs[CSR.dilation_height] - regs[CSR.pad_height]
    last = (regs[CSR.image_height] - 1) * regs[CSR.divide_height]
    places = min(first + span, last) - max(first, 0)
    return max(places // regs[CSR.divide_height] + 1, 0)


@jit
def _remainders(lines, step, offset, divide):
    """Flags of the remainders, by `divide`, of lines times `step` plus `offset`."""
    flags = np.zeros(divide, np.int64)
    for line in lines:
        flags[(line * step + offset) % divide] = 1
    return flags


@jit
def _ends(lines, step, divide):
    """The first and the last of the lines with each remainder, by `divide`, of line times `step`."""
    kept = np.zeros(len(lines), np.bool_)
    first, last = np.full(divide, -1), np.full(divide, -1)
    for i in range(len(lines)):
        rest = lines[i] * step % divide
        if first[rest] < 0:
            first[rest] = i
        last[rest] = i
    for rest in range(divide):
        if first[rest] >= 0:
            kept[first[rest]] = kept[last[rest]] = True
    return lines[kept]


@jit
def _lines_within(span, rests, tap_rests):
    """The most lines that `span` places within the image hold: of multiples of `divide`, from a place whose remainder
    is the sum of two of those that are flagged."""
    divide = len(rests)
    most = max(span // divide + 1, 0)
    best = max(most - 1, 0)
    for rest in range(divide):
        for tap in range(divide):
            if best < most and rests[rest] and tap_rests[tap]:
                best = max(best, (span - -(rest + tap) % divide) // divide + 1)
    return best
