"""Writes records: journal, sender, worker pool, id resolver."""
