"""Server side: fetch and export models, render the repository, measure."""
