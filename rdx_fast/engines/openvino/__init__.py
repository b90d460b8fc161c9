"""OpenVINO on CPUs: the engine, the network it runs, and how that is compiled."""
