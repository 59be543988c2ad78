"""What runs inside the sandbox child: the operations the parent may ask for."""
