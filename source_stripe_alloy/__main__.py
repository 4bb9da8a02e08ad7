"""`python -m source_stripe_alloy`."""

from source_stripe_alloy import main

main()
