"""Pure: decides what to write, and why."""
