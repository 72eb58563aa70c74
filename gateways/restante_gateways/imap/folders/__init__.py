"""The folders that sessions of this process have open, each kept current for all of them."""
