"""What a table's subscribers are given: its contract in the forms that their tools read, and sample consumers."""
