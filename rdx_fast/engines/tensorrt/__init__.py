"""TensorRT or TensorRT for RTX on an NVIDIA GPU: plans, their cache and the engine."""
