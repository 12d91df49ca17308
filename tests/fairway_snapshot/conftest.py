"""What all property tests of this package share: how many examples they draw."""

from hypothesis import settings

settings.register_profile("snapshot", max_examples=150)
settings.load_profile("snapshot")
