"""Everything else stands in pyproject.toml, which cannot name cffi modules."""

from setuptools import setup

setup(cffi_modules=["c_ref/build.py:ffi"])
