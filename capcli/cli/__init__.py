"""The command line: it owns the process, and nothing below it prints."""
