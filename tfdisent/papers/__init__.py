"""What each paper reports and asks, as plain data."""
