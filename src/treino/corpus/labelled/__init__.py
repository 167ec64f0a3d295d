"""Texts with classes: read from tables, cleaned, and split into what is learnt from, tuned on, and judged by."""
