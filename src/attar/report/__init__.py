"""What a person reads afterwards: tables, drawings, the report."""
