"""Ready to be copied."""
