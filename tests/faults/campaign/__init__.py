"""A campaign of faults against both services, judged by databases, topics and mailbox."""
