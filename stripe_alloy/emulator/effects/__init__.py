"""What happens when something is bought, billed, paid, returned: one small function an effect.

An effect takes the session and objects, changes them, and records the events Stripe would send.
"""
