"""Generators of files and of tables in the docs."""
