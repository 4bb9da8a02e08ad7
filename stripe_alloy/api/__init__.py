"""Stripe's API: object types, schemas, parameters, client, rate limits, errors."""
