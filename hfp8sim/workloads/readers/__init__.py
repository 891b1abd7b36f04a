"""Readers of files: a module for each kind of file, and the table of them (`table.READERS`)."""
