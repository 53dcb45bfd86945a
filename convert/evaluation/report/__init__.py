"""The parts that every report page is made of."""
