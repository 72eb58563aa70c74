"""DMARC aggregate reports: counting mail, sending daily reports, and reading those of other servers."""
