"""Channels that can only be cut together, and networks without them."""
