"""What a user can do: one function and one result type a verb. Nothing here prints or parses arguments."""
