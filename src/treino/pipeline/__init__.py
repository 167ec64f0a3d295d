"""Stages in a row, the cache that makes them restartable, and the folder that a run leaves."""
