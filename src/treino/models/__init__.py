"""The networks, their folders on disk, and text from them."""
