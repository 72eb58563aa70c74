"""Views of a folder: shared columns, each session's sequence numbers, and responses from both. *Pure.*"""
