"""The migration steps, in order. 0001 is the schema of the first release."""
