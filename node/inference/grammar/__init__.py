"""What a model may write: JSON schemas as GBNF, and JSON read strictly."""
