"""Generates the JSON schemas from the types of the `stripe` package."""
