"""One scenario, played by every SDK. See README.md."""
