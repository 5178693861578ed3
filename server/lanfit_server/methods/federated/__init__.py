"""Federated rounds: the schedule, aggregation, server optimizers, and what a round writes."""
