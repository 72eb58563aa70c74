"""The command line: `restante`."""
