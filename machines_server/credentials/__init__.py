"""The files that `network.credential` and `network.ca` name: secrets to send, and authorities to trust."""
