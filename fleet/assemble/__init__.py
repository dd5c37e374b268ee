"""The only place that picks concrete parts: which store, which providers, which server, and how they hear of each other."""
