"""The kinds of job. Each has a class that does the work of one job in steps."""
