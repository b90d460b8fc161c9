"""What GPUs need and has neither torch nor Triton: a file for each operation, with its launch, its
block sizes and its variants; NVIDIA's driver; the library of kernels built ahead of time."""
