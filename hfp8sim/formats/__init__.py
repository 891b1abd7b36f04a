"""Number formats: records, registry, code tables, encoding and decoding of arrays."""

from hfp8sim.formats.record import LOWEST, MODES, OVERFLOW, SPECIALS, ZEROS, Facts, FloatFormat
from hfp8sim.formats.registry import formats, get_format, load_formats, p3109, register_format

__all__ = [
    "LOWEST",
    "MODES",
    "OVERFLOW",
    "SPECIALS",
    "ZEROS",
    "Facts",
    "FloatFormat",
    "formats",
    "get_format",
    "load_formats",
    "p3109",
    "register_format",
]
