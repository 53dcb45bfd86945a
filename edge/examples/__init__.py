"""Runnable examples of the programming interface; `edge.api` describes it. The tests run each of them."""
