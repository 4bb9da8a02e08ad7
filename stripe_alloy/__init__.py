"""What the tap and the target share: Stripe's API, an emulator, connections, webhooks."""
