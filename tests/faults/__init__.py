"""Bad days: processes killed, disks filled, connections cut."""
