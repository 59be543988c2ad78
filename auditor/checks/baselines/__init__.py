"""Methods of others, as published, to compare with; they run only where ``--checks`` names them."""
