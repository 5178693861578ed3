"""What people follow of a run, made of its events while it goes on and of its files afterwards."""
