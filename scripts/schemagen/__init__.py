"""Reads the types of the `stripe` package and writes the tap's schemas from them."""
