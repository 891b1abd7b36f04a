"""Planted bugs and the tests that must find them; see `tests.mutants.bugs` and `python -m tests.mutants`."""
