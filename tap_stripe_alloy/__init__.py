"""tap-stripe-alloy: a Singer tap for Stripe."""
