"""Who is who: association, swap risk, identities, sides."""
