"""The HTTP API: its routes and the shapes of its answers."""
