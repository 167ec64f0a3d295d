"""Conversations: read from many forms, each once, dealt to training and validation."""
