"""Running chosen paths for real, and comparing with what was predicted."""
