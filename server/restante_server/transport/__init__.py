"""The transport: accepts, delivers, queues, relays and reports mail that the core is responsible for."""
