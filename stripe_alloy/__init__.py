"""What the tap and the target share: transport, request budget, errors, emulator, command line."""
