"""Business effects: purchases, billing, payments, returns; one small function per effect.

An effect changes objects of a session, and records the events that Stripe would send.
"""
