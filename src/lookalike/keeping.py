"""Which of several copies is kept, and why."""
