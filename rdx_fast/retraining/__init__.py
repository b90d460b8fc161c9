"""The weekly loop: what people said of inspected parts becomes a candidate of the job's bundle."""
