"""Converts Stripe objects to Singer records and writes them."""
