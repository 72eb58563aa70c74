"""Fixtures and helpers of several tests: servers, processes, faults, transcripts, requirements on the machine."""
