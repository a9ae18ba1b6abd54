"""The frozen vocabulary that every other part shares; it imports none of them."""
