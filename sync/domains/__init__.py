"""What is special about each domain, one package for each."""
