"""Reads events: change detection, event feeds, the webhook inbox, the target's own writes."""
