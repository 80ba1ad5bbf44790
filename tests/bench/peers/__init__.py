"""What the allocator is compared with, each a process of its own: `naive`, `careful`, and the `limit`.

All have what the allocator has: the tables with their indexes and constraints in the same durable PostgreSQL, a pool of
as many connections, an idempotent producer with acks=all, and events of the same bytes and headers.
"""
