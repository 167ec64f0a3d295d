"""One training loop; objectives, penalties and batch sources plug into it."""
