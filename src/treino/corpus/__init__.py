"""Sources to documents, and documents to a corpus that is worth learning from."""
