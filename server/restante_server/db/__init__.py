"""The database: engines, the write pipeline, snapshot reads, the schema and its migrations."""
