"""Stripe's API, the emulator, connections and webhooks: used by the tap and the target."""
