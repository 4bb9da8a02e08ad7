"""Stripe itself: object types, schemas, parameters, client, rate limits, errors."""
