"""Generators of schemas, docs tables and pictures, and the hook of the docs site."""
