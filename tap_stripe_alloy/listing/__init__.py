"""Reads lists: windows of `created`, list variants, payment methods, test clocks."""
