"""Events as they happen: a receiver that keeps them, and the inbox that it keeps them in."""
