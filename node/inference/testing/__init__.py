"""What tests and examples run on: tiny models, families of templates, a server good and evil."""
