"""The handshake: a state machine without clock, thread or network."""
