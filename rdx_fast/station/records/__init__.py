"""Records of inspections: rows in SQLite and pictures."""
