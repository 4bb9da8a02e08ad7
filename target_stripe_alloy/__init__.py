"""target-stripe-alloy: a Singer target that writes records to Stripe."""
