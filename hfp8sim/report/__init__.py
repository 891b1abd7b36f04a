"""Reports: columns, terminal table, CSV, JSON, HTML and timeline."""
