"""From a frame to events. No I/O, no threads; time is an argument."""
