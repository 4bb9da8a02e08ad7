"""Webhooks: the receiver, and the inbox that stores its events."""
