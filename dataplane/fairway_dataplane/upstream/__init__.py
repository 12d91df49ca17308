"""The side of the backends: who is chosen, who is connected, who speaks."""
