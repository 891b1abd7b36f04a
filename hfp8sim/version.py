"""The version of hfp8sim, for reports, files and `hfp8sim --version`."""

__version__ = "0.2.0"
