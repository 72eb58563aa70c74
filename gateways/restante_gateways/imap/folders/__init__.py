"""Folders that sessions of this process have open. Each is kept current once for all its sessions."""
