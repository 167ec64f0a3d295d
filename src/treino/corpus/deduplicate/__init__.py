"""Deduplication: equal documents, nearly equal ones, and long paragraphs that stand in several documents."""
