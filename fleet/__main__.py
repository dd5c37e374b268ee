"""`python -m fleet`, and the `fleet` command."""

import signal


def main() -> None:
    """Whatever the command line says. Ctrl-C while it is still being loaded ends it without a word."""
    if (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):  # not where it is ignored, as in `nohup fleet ... &`
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fleet.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
