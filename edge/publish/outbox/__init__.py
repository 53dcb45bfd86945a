"""Events kept until the broker acknowledged them."""
