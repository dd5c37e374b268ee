"""The embedded ClearML-compatible API: `app.create_server` is its front door."""
