"""What the package tells its user: lines of progress, which errors are the user's to fix, and exit codes."""

# Errors that a user can fix: told in one message, without a traceback.
USER_ERRORS = (ValueError, OSError, ArithmeticError)
STOPPED = 143  # exit status after SIGTERM, as shells count it
INTERRUPTED = 130  # likewise after SIGINT


def say(message: str) -> None:
    """Prints a line of progress at once, also where output goes to a file."""
    print(message, flush=True)
