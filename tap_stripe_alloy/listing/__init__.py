"""Reads lists: windows of `created`, nested lists, payment methods, test clocks."""
