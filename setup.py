"""Everything else stands in pyproject.toml, which cannot name cffi modules."""

from setuptools import setup

setup(
    cffi_modules=["c_ref/build.py:ffi"],
    # The extension uses Python's stable interface: one wheel for each platform serves 3.11 and later.
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
