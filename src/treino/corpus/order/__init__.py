"""How often each document is read, and in which order."""
