"""What every process of the platform needs: logs, metrics and health over HTTP, certificates. It knows nobody."""
