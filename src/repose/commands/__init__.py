"""The verbs of the command line that are not a table: each is a function from words and flags to an exit status."""
