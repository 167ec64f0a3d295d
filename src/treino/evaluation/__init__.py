"""Judges finished models: what they have learnt, beside what simpler things would have."""
