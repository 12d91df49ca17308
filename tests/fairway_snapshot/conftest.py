"""What all property tests of this package share: few examples, no deadline on a busy machine."""

from hypothesis import settings

settings.register_profile("fairway", max_examples=150, deadline=None)
settings.load_profile("fairway")
