"""Generates the tables in README and docs from the declarations."""
