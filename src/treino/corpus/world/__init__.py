"""The embedded default corpus: a small town whose truth is known, told by a seeded grammar in Brazilian Portuguese."""
