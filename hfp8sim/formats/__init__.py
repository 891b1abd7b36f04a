"""Number formats: records, registry, code tables, encoding and decoding of arrays."""

import sys
import types

from hfp8sim.formats.fixed import FixedPoint
from hfp8sim.formats.record import LOWEST, MODES, OVERFLOW, SPECIALS, ZEROS, Facts, FloatFormat
from hfp8sim.formats.registry import formats, get_format, load_formats, p3109, register_format

__all__ = [
    "LOWEST",
    "MODES",
    "OVERFLOW",
    "SPECIALS",
    "ZEROS",
    "Facts",
    "FixedPoint",
    "FloatFormat",
    "formats",
    "get_format",
    "load_formats",
    "p3109",
    "register_format",
]


class _Room(types.ModuleType):
    """This package, which is also the public function `hfp8sim.formats()`."""

    def __call__(self) -> list[str]:
        """Names of all registered formats, in order of registration."""
        return formats()


sys.modules[__name__].__class__ = _Room
