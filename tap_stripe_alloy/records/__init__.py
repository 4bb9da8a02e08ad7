"""Turns Stripe's objects into Singer records and writes them."""
