"""target-stripe-alloy: holds records against Stripe; this release compares and writes nothing."""
