"""Reports: rows of values under declared columns, and the forms they are written in.

From low to high: `columns` (what a value means) · `record`, `comparison` (plain data) · renderers (`table`,
`comparison_table`, `html`, `csv`, `json`, `scalesim`, `timeline`, `theory`) · `forms` (their registry) ·
`report` (the classes that callers use). Importing this package alone loads nothing.
"""
