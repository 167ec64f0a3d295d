"""Draws what happened: the one-file HTML report and the model card. It renders facts and computes none."""
