"""What a device offers to the pipeline on a GPU: a queue of work, memory, graphs."""
