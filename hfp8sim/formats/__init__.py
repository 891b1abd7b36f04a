"""Number formats: records, registry, code tables, encoding and decoding of arrays."""

import sys
import types

from hfp8sim.formats.fixed import FixedPoint
from hfp8sim.formats.record import FloatFormat
from hfp8sim.formats.registry import formats, get_format, load_formats, p3109, register_format
from hfp8sim.formats.vocabulary import LOWEST, MODES, OVERFLOW, SPECIALS, ZEROS, Facts

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


class _CallableModule(types.ModuleType):
    """A module that is also callable: `hfp8sim.formats` is a package and a public function."""

    def __call__(self) -> list[str]:
        """Names of all registered formats, in order of registration."""
        return formats()


sys.modules[__name__].__class__ = _CallableModule
