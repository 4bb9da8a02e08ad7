"""`python -m stripe_alloy.airbyte`."""

from stripe_alloy.airbyte import main

main()
