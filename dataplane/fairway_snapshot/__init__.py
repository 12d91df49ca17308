"""The value between operator and data plane: a routing snapshot, its bytes and its stream."""
