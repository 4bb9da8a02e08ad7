"""The `stripe-alloy` command."""
