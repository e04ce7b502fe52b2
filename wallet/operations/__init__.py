"""What moves money, each a journalled saga."""
