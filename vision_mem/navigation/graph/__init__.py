"""Places and the ways between them, and routes on them."""
