"""How fast the layers are, beside other layers."""
