"""Reads events: change detection, feeds, the webhook inbox, own writes."""
