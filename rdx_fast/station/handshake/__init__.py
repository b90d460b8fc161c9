"""The handshake with the PLC: a state machine without clock, threads or network."""
