"""Frame sources: cameras, streams, videos and image files."""
