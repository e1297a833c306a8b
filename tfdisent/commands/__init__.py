"""The command line: flags, messages and exit codes; nothing else in the package knows absl."""
