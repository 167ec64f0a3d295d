"""Where documents come from: files and folders, tables, and the embedded world."""
