"""The seeded business: the same seed gives the same bytes, on any Python and on any day."""
