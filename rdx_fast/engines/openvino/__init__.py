"""OpenVINO on CPUs: the engine, its network and the compilation."""
