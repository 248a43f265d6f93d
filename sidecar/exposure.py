"""Warnings at the start about how the sidecar is exposed."""

from ipaddress import ip_address


def warnings(address: str, *, is_root: bool) -> list[str]:
    """One warning if it can be reached from other hosts, and one if it runs as root."""
    found = []
    if not ip_address(address.partition("%")[0]).is_loopback:
        found.append(
            f"anyone who can reach {address} can read this host's metrics: "
            "allow only the server in a firewall, or set SIDECAR_HOST to an address of a private network"
        )
    if is_root:
        found.append("it runs as root, which it does not need: run it as a user of its own")
    return found
