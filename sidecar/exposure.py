"""Warnings at the start about how the sidecar is exposed."""

from ipaddress import ip_address


def warnings(address: str, *, is_root: bool, is_guarded: bool = False) -> list[str]:
    """One warning if other hosts can read it, unless it `is_guarded` by signatures; one for root."""
    found = []
    if not is_guarded and not ip_address(address.partition("%")[0]).is_loopback:
        found.append(
            f"anyone who can reach {address} can read this host's metrics: "
            "allow only the server in a firewall, or set SIDECAR_HOST to an address of a private network"
        )
    if is_root:
        found.append("it runs as root, which it does not need: run it as a dedicated user")
    return found
