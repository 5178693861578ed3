"""Stand-ins for what is slow or rare: a backend that trains in milliseconds. Only tests can have them."""
