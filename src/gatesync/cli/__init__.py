"""The command line: it wires the roles together and stays thin."""
