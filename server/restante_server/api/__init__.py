"""The API: protobuf in, one transaction, protobuf out. No SQL here, and no protobuf below."""
