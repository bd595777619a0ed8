"""Entry of ``python -m examples.demo``: look at the machine first, so that even an old Python gets a clear answer."""

import signal
import sys

from .problems import DemoError, check_machine


def main() -> int:
    """Run the demo; 0 if it went through, 1 with a message if not, 130 after Ctrl-C or when told to end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then too
    try:
        check_machine()
        from .run import run  # not sooner: an old Python could not read it

        run(sys.argv[1:])
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
