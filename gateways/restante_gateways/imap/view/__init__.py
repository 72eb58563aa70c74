"""A folder as its sessions count it: shared columns, each session's numbers, and the responses made of both. *Pure.*"""
