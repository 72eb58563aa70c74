"""Tests of faults: killed processes, full disks, cut connections, bad input, overload."""
