"""The command line: typer, one file a noun. Heavy imports wait until a command needs them."""
