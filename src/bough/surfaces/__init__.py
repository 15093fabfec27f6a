"""What people and programs touch: each parses, calls the client or runner, and shows."""
