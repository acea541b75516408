"""A table compared, row by row, where it comes from and where it went to: source database, lake, Redis."""
