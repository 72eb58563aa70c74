"""Tests of Restante; the folders mirror the tree."""
