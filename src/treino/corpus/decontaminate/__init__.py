"""Decontamination: what judges the model must not stand in what it learns from."""
