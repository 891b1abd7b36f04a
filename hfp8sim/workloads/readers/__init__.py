"""Readers of files: one module a kind of file, each with a function `load_…(path) -> Workload`."""
