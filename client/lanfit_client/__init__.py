"""A client machine: joins, trains, hands back."""
