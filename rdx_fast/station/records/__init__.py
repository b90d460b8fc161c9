"""What is kept of inspections: rows on disk, pictures of rejected parts."""
