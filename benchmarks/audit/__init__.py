"""What audit records cost, and what seals them."""
